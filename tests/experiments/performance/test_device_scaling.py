"""What a data-parallel step exchanges, and the model that makes times of it, by hand."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from tiny_model import tiny_model

from bifpn_jax.json_files import read_json
from bifpn_jax.ops.batch_norm import batch_normalize
from bifpn_jax.recipe import base
from experiments.performance import device_scaling
from experiments.performance.data_parallel import (
    all_reduces,
    clusters,
    counting,
    program,
    step_time,
)
from experiments.performance.data_parallel.all_reduces import GRADIENTS, REST, STATISTICS, Exchanged
from experiments.performance.data_parallel.clusters import CLUSTERS, Cluster, all_reduce_seconds
from experiments.performance.data_parallel.step_time import Setup, Work
from experiments.performance.roofline import ACCELERATORS, Accelerator

DOCS = Path(__file__).resolve().parents[3] / "docs"

CHIP = Accelerator(bfloat16=100e12, float32=10e12, bandwidth=1e12)
# A gigabyte per second inside and a tenth of it outside, after the share that a link gives.
SWITCH = Cluster(1e9, 8, 0, 1, 1e9 / 0.8, 1e8 / 0.8, 0.0, 0.0, 0.0)
TORUS = SWITCH._replace(domain=256, axes=2, ring=4)
SLOW_START = SWITCH._replace(start=3e-6, hop=1e-6, stage=10e-6)
FREE = SWITCH._replace(inside=float("inf"), outside=float("inf"))
WORK = Work(flops=5e12, bytes=20e9, gradients=1e6, statistics=1e5, rounds=10)


def test_one_device_exchanges_nothing():
    assert all_reduce_seconds(1e9, 1, SLOW_START) == 0


def test_a_ring_sends_almost_twice_the_array():
    assert all_reduce_seconds(1e9, 8, SWITCH) == pytest.approx(2 * 7 / 8)
    assert all_reduce_seconds(1e9, 2, SWITCH) == pytest.approx(1.0)


def test_an_open_axis_halves_the_bandwidth():
    assert all_reduce_seconds(1e9, 16, TORUS) == pytest.approx(2 * 15 / 16)
    assert all_reduce_seconds(1e9, 8, TORUS) == pytest.approx(2 * 2 * 7 / 8)


def test_beyond_a_domain_each_device_sends_its_part():
    """Inside 1.75 s; then an eighth of the array to one other domain at a tenth of the speed."""
    assert all_reduce_seconds(1e9, 16, SWITCH) == pytest.approx(1.75 + 1 / 8 * 10)


def test_latency_is_of_the_longest_way_and_back():
    assert all_reduce_seconds(0, 8, SLOW_START) == pytest.approx(3e-6 + 2 * 7e-6)
    assert all_reduce_seconds(0, 64, SLOW_START) == pytest.approx(3e-6 + 2 * (7e-6 + 3 * 10e-6))
    ring = TORUS._replace(hop=1e-6)
    assert all_reduce_seconds(0, 16, ring) == pytest.approx(2 * (2 + 2) * 1e-6)
    assert all_reduce_seconds(0, 8, ring) == pytest.approx(2 * (1 + 3) * 1e-6)


def test_slices_have_the_vendor_s_shapes():
    flat = [clusters.torus(n, 2) for n in (8, 16, 32, 64, 128, 256)]
    assert flat == [(2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16)]
    deep = [clusters.torus(n, 3) for n in (8, 32, 64, 128, 256, 512, 1024)]
    assert deep[:4] == [(2, 2, 2), (2, 4, 4), (4, 4, 4), (4, 4, 8)]
    assert deep[4:] == [(4, 8, 8), (8, 8, 8), (8, 8, 16)]


def test_every_accelerator_has_links():
    assert set(CLUSTERS) == set(ACCELERATORS)


def test_a_step_without_cost_of_exchange_is_fully_efficient():
    """Arithmetic takes 50 ms at peak and memory 20; the step reaches half of it."""
    found = step_time.step_time(WORK, 1024, CHIP, FREE)
    assert found == pytest.approx((0.1, 0, 0, 0))
    assert found.efficiency(overlap=False) == found.efficiency(overlap=True) == 1


def test_the_parts_of_a_step_by_hand():
    found = step_time.step_time(WORK, 8, CHIP, SLOW_START)
    latency = 17e-6
    assert found.statistics == pytest.approx(10 * (latency + 1.75 * 1e4 / 1e9))
    assert found.gradients == pytest.approx(latency + 1.75 * 1e6 / 1e9)
    assert found.normalizer == pytest.approx(latency, rel=1e-3)
    assert found.total(overlap=False) == pytest.approx(sum(found))
    assert found.total(overlap=True) == pytest.approx(sum(found) - found.gradients)


def test_overlap_hides_no_more_than_the_backward_pass():
    found = step_time.step_time(WORK._replace(gradients=1e9), 8, CHIP, SWITCH)
    assert found.gradients == pytest.approx(1.75)
    hidden = found.total(overlap=False) - found.total(overlap=True)
    assert hidden == pytest.approx(step_time.BACKWARD * 0.1)


def test_gradients_go_in_buckets():
    found = step_time.step_time(
        WORK._replace(gradients=2.5 * step_time.BUCKET), 8, CHIP, SLOW_START._replace(inside=1e30)
    )
    assert found.gradients == pytest.approx(3 * 17e-6)


def test_what_can_be_changed():
    whole = step_time.step_time(WORK, 64, CHIP, SLOW_START)
    grouped = step_time.step_time(WORK, 64, CHIP, SLOW_START, Setup(group=8))
    assert grouped.statistics == step_time.step_time(WORK, 8, CHIP, SLOW_START).statistics
    assert grouped._replace(statistics=whole.statistics) == whole
    half = step_time.step_time(WORK, 64, CHIP, SWITCH, Setup(gradient_width=2))
    assert 2 * half.gradients == pytest.approx(
        step_time.step_time(WORK, 64, CHIP, SWITCH).gradients
    )
    parts = step_time.step_time(WORK, 64, CHIP, SLOW_START, Setup(accumulate=4))
    expected = (4 * whole.compute, 4 * whole.statistics, whole.gradients, whole.normalizer)
    assert parts == pytest.approx(expected)


def test_more_devices_are_less_efficient_each():
    sizes = [2**power for power in range(11)]
    for cluster in (SLOW_START, TORUS._replace(ring=1, hop=1e-6, stage=1e-5)):
        times = [step_time.step_time(WORK, n, CHIP, cluster) for n in sizes]
        for overlap in (False, True):
            found = [t.efficiency(overlap=overlap) for t in times]
            assert found == sorted(found, reverse=True)
            assert found[0] == 1
            assert found[-1] < 1


def norms(x):
    """Two that do not depend on one another, and one that needs both."""
    scale, bias = jnp.ones(3), jnp.zeros(3)

    def norm(x):
        return batch_normalize(x, scale, bias, 1e-3, "i")[0]

    return norm(norm(x) + norm(2 * x)), jax.lax.psum(jnp.sum(x), "i")


def test_kinds_and_the_chain_of_a_small_program():
    x = jax.ShapeDtypeStruct((8, 2, 4, 4, 3), jnp.float32)
    jaxpr = jax.make_jaxpr(jax.pmap(norms, "i"))(x)
    found = all_reduces.count_by_kind(jaxpr)
    assert found[STATISTICS] == Exchanged(6, 6 * 3 * 4)
    assert found[REST] == Exchanged(1, 4)
    assert found[GRADIENTS] == Exchanged(0, 0)
    assert all_reduces.statistics_chain(jaxpr) == 2


def toy_step(params, x):
    """A layer with a norm behind it, in a step that sums its gradients and its loss."""

    def loss(params):
        kernel, scale, bias = params
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.sum(batch_normalize(y, scale, bias, 1e-3, "i", jnp.tanh)[0] ** 2)

    return jax.lax.pmean(jax.value_and_grad(loss)(params), "i")


def total(by_kind):
    """Of all kinds."""
    return Exchanged(*map(sum, zip(*by_kind.values(), strict=True)))


def test_a_small_step_counted_lowered_and_compiled():
    params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((3, 3, 2, 4), (4,), (4,))]
    x = jax.ShapeDtypeStruct((8, 2, 4, 4, 2), jnp.float32)
    step = jax.pmap(toy_step, "i", in_axes=(None, 0))
    found = all_reduces.count_by_kind(jax.make_jaxpr(step)(params, x))
    gradients, statistics = 4 * (9 * 2 * 4 + 4 + 4), 4 * 4 * 4
    assert found[GRADIENTS] == Exchanged(3, gradients)
    assert found[STATISTICS] == Exchanged(4, statistics)
    assert found[REST] == Exchanged(1, 4)
    lowered = step.lower(params, x)
    assert all_reduces.count_lowered(lowered.as_text()) == total(found)
    operations, compiled = all_reduces.count_compiled(lowered.compile().as_text())
    assert compiled == total(found)
    assert operations == 3  # statistics forward, statistics backward, all else


def test_compilers_join_arrays_and_functions_are_counted_per_call():
    """Programs as text: a function that is called twice, and an operation of two arrays."""
    lowered = """
  func.func public @main(%arg0: tensor<2xf32>) -> tensor<2xf32> {
    %0 = call @twice(%arg0) : (tensor<2xf32>) -> tensor<2xf32>
    %1 = call @twice(%0) : (tensor<2xf32>) -> tensor<2xf32>
  }
  func.func private @twice(%arg0: tensor<2xf32>) -> tensor<2xf32> {
    %0 = "stablehlo.all_reduce"(%arg0) <{replica_groups = dense<0> : tensor<1x1xi64>}> ({
    ^bb0(%arg1: tensor<f32>, %arg2: tensor<f32>):
      stablehlo.return %2 : tensor<f32>
    }) : (tensor<2xf32>) -> tensor<2xf32>
  }"""
    assert all_reduces.count_lowered(lowered) == Exchanged(2, 2 * 8)
    compiled = "  %a = (f32[3,2]{1,0}, /*index=1*/bf16[]) all-reduce(%b, %c), channel_id=1\n"
    assert all_reduces.count_compiled(compiled) == (1, Exchanged(2, 24 + 2))


@pytest.fixture(scope="module")
def tiny():
    """A small step's config and model."""
    return base.get_config("d0"), tiny_model(image_hw=(64, 64))


@pytest.fixture(scope="module")
def counted(tiny):
    return counting.count_step(*tiny, (2,))


def test_gradients_are_the_parameters_and_statistics_four_per_norm(counted, tiny):
    _, model = tiny
    sums = counted["all_reduces"]
    assert sums[GRADIENTS]["bytes"] == 4 * counted["parameters"]
    # Normaliser, three losses and the positives.
    assert sums[REST] == {"arrays": 5, "bytes": 20}
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    running = jax.tree.leaves(variables["batch_stats"])
    # Mean and variance of each norm run along; two sums in either direction.
    assert sums[STATISTICS]["arrays"] == 2 * len(running)
    assert sums[STATISTICS]["bytes"] == 2 * program.tree_bytes(variables["batch_stats"])
    assert 0 < counted["chain"] < sums[STATISTICS]["arrays"] // 2


def test_lowered_is_what_was_counted(counted):
    sums = counted["all_reduces"].values()
    assert counted["lowered"] == {
        what: sum(part[what] for part in sums) for what in ("arrays", "bytes")
    }


@pytest.mark.slow
def test_compiled_is_what_was_counted(counted, tiny):
    """Exactly, where a norm sees two positions or more on a device.

    With one alone the gradient of its bias is the statistic of the backward pass, and the compiler
    sums it once.
    """
    compiled = counting.compile_step(*tiny, 2)
    assert {what: compiled[what] for what in ("arrays", "bytes")} == counted["lowered"]
    assert 0 < compiled["operations"] < compiled["arrays"]
    # The state, and a share of the batch.
    assert compiled["argument_bytes"] > counted["state_bytes"]


def test_with_remat_less_is_kept(counted):
    assert 0 < counted["kept_bytes_remat"] < counted["kept_bytes"] / 2


def test_other_batches_are_on_the_line_through_the_counted_ones():
    found = {"work": {"4": {"bytes": 50}, "8": {"bytes": 90}, "16": {"bytes": 170}}}
    assert step_time.at_batch(found, "bytes", 8) == 90
    assert step_time.at_batch(found, "bytes", 1) == 20


def test_what_is_in_the_file_is_not_counted_again(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(device_scaling, "count_released", lambda name, _: calls.append(name) or {})
    monkeypatch.setattr(device_scaling, "compile_released", lambda name, _: calls.append("c") or 1)
    path = tmp_path / "counts.json"
    device_scaling.update_counts(path, ["d1"], [])
    found = device_scaling.update_counts(path, ["d0", "d1"], ["d1"])
    assert calls == ["d1", "d0", "c"]
    assert list(found.items()) == [("d0", {}), ("d1", {"compiled": 1})]
    assert read_json(path) == found


def test_the_page_in_docs_is_made_from_the_counts_beside_it():
    found = read_json(DOCS / device_scaling.COUNTS_FILE)
    page = (DOCS / device_scaling.PAGE_FILE).read_text("utf-8")
    assert page == device_scaling.page_of(found), f"run {device_scaling.COMMAND}"
