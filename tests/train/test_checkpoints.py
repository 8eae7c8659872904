import json
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from bifpn_jax.errors import UserError
from bifpn_jax.train.checkpoint_reader import read_weights, restore_meta
from bifpn_jax.train.checkpoints import Checkpoints
from bifpn_jax.train.optimizer import make_optimizer


@struct.dataclass
class State:
    step: jax.Array
    params: dict
    batch_stats: dict
    opt_state: optax.OptState
    ema_params: dict
    ema_batch_stats: dict


REPLICATED = NamedSharding(Mesh(jax.local_devices(), ("batch",)), PartitionSpec())
META = {"config": {"model": "d0", "levels": [3, 7]}, "names": ["cell", "zebra é"]}


def make_state(step=0, *, width=4, classes=3, optimizer="sgd"):
    """A state with leaves of every type that a run has, different at every step."""
    rng = np.random.default_rng(step)

    def draw(*shape, dtype=jnp.float32):
        return jnp.asarray(rng.standard_normal(shape), dtype)

    params = {
        "backbone": {"stem": {"kernel": draw(3, 3, 3, width)}},
        "class_net": {"kernel": draw(width, classes), "bias": draw(classes, dtype=jnp.bfloat16)},
    }
    stats = {"backbone": {"norm": {"mean": draw(width), "var": draw(width)}}}
    transformation = make_optimizer(lambda step: 0.1, params, name=optimizer)
    _, opt_state = transformation.update(
        jax.tree.map(jnp.ones_like, params), transformation.init(params), params
    )
    return State(
        step=jnp.int32(step),
        params=params,
        batch_stats=stats,
        opt_state=opt_state,
        ema_params=jax.tree.map(lambda x: x + 1, params),
        ema_batch_stats=jax.tree.map(lambda x: x + 1, stats),
    )


def assert_identical(ours, expected):
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def saved_steps(workdir, name):
    return sorted(int(path.name) for path in (workdir / "checkpoints" / name).iterdir())


def save_steps(workdir, steps, **kwargs):
    checkpoints = Checkpoints(workdir, **kwargs)
    for step in steps:
        checkpoints.save(step, make_state(step), {"next_index": step}, {**META, "step": step})
    checkpoints.close()


def test_round_trip_is_bit_exact(tmp_path):
    save_steps(tmp_path, [1, 7])
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step == 7
    assert checkpoints.best_step is None
    state, iterator, meta = checkpoints.restore(make_state(0))
    assert_identical(state, make_state(7))
    assert int(state.step) == 7
    assert isinstance(state, State)
    assert iterator == {"next_index": 7}
    assert meta == {**META, "step": 7}
    state, iterator, _ = checkpoints.restore(make_state(0), step=1)
    assert_identical(state, make_state(1))
    assert iterator == {"next_index": 1}
    checkpoints.close()


def test_restored_arrays_have_the_given_sharding(tmp_path):
    save_steps(tmp_path, [3])
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=REPLICATED), make_state(0)
    )
    checkpoints = Checkpoints(tmp_path)
    state, _, _ = checkpoints.restore(target)
    checkpoints.close()
    assert_identical(state, make_state(3))
    assert {leaf.sharding for leaf in jax.tree.leaves(state)} == {REPLICATED}


def test_a_replicated_state_is_restored_on_one_device(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, jax.device_put(make_state(3), REPLICATED), {}, META)
    state, _, _ = checkpoints.restore(make_state(0))
    checkpoints.close()
    assert_identical(state, make_state(3))
    assert all(isinstance(leaf.sharding, SingleDeviceSharding) for leaf in jax.tree.leaves(state))


def test_a_target_without_sharding_is_a_mistake_of_the_caller(tmp_path):
    save_steps(tmp_path, [1])
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(ValueError, match="needs a sharding"):
        checkpoints.restore(jax.eval_shape(make_state))
    checkpoints.close()


@pytest.mark.parametrize("replicated", [False, True])
def test_the_state_may_be_donated_while_it_is_being_written(tmp_path, replicated):
    update = jax.jit(lambda x: jax.tree.map(lambda leaf: leaf + 1, x), donate_argnums=0)
    state = {"kernel": jnp.zeros((2000, 1000)), "step": jnp.int32(0)}
    if replicated:
        state = jax.device_put(state, REPLICATED)
    checkpoints = Checkpoints(tmp_path, keep_latest=3)
    for step in range(3):
        checkpoints.save(step, state, {}, META, metrics={"AP": step})
        for _ in range(3):
            state = jax.block_until_ready(update(state))
    for step in range(3):
        restored, _, _ = checkpoints.restore(state, step=step)
        np.testing.assert_array_equal(np.unique(restored["kernel"]), [3 * step])
        assert int(restored["step"]) == 3 * step
    checkpoints.close()


def test_latest_and_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep_latest=2)
    scores = {10: 0.2, 20: 0.5, 30: float("nan"), 40: 0.4, 50: -1.0}
    for step, ap in scores.items():
        checkpoints.save(step, make_state(step), {}, META, metrics={"AP50": 0.9, "AP": ap})
        checkpoints.save(step + 5, make_state(step + 5), {}, META)
    checkpoints.wait()
    assert checkpoints.latest_step == 55
    assert checkpoints.best_step == 20
    state, _, _ = checkpoints.restore(make_state(0), step="best")
    assert_identical(state, make_state(20))
    state, _, _ = checkpoints.restore(make_state(0))
    assert_identical(state, make_state(55))
    checkpoints.close()
    assert saved_steps(tmp_path, "latest") == [50, 55]
    assert saved_steps(tmp_path, "best") == [20]


def test_best_goes_on_after_a_restart_and_below_the_newest_step(tmp_path):
    for step, ap in [(20, 0.5), (30, 0.3), (10, 0.7), (40, 0.6)]:
        checkpoints = Checkpoints(tmp_path, keep_best=2)
        checkpoints.save(step, make_state(step), {}, META, metrics={"AP": ap})
        checkpoints.close()
    assert saved_steps(tmp_path, "best") == [10, 40]
    assert restore_meta(tmp_path, "best") == META
    weights = read_weights(tmp_path, ema=False)
    assert_identical(weights["params"], jax.tree.map(np.asarray, make_state(10).params))


def test_a_new_best_metric_starts_anew(tmp_path):
    for metric, step, value in [("AP", 1, 0.9), ("AP50", 2, 0.1), ("AP50", 3, 0.05)]:
        checkpoints = Checkpoints(tmp_path, best_metric=metric)
        checkpoints.save(step, make_state(step), {}, META, metrics={metric: value})
        assert checkpoints.best_step == max(1, min(step, 2))
        checkpoints.close()


def test_numbers_of_other_evaluations_are_not_compared(tmp_path, caplog):
    """The best of those is kept out of the way; the first of the new ones is the best, if worse."""
    for step, ap, measured in [(1, 0.9, "a"), (2, 0.8, "a"), (3, 0.2, "b"), (4, 0.1, "b")]:
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(
            step, make_state(step), {}, {"step": step}, metrics={"AP": ap}, measured=measured
        )
        checkpoints.close()
        assert saved_steps(tmp_path, "best") == [3 if step > 2 else 1]
    assert saved_steps(tmp_path, "earlier_best") == [1]
    (said,) = [record.getMessage() for record in caplog.records if "best" in record.getMessage()]
    assert "of step 1, was measured on other evaluation data or with other settings" in said
    assert restore_meta(tmp_path)["step"] == 3
    # It is still there for whoever names its step, also once it is none of the newest.
    assert saved_steps(tmp_path, "latest") == [3, 4]
    assert restore_meta(tmp_path, 1)["step"] == 1


def test_within_one_run_they_are_not_compared_either(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep_best=2)
    for step, ap, measured in [(1, 0.9, "a"), (2, 0.8, "a"), (3, 0.2, "b"), (4, 0.3, "b")]:
        checkpoints.save(step, make_state(step), {}, META, {"AP": ap}, measured=measured)
    checkpoints.wait()
    assert checkpoints.best_step == 4
    checkpoints.close()
    assert saved_steps(tmp_path, "best") == [3, 4]
    assert saved_steps(tmp_path, "earlier_best") == [1, 2]


def test_a_step_that_is_the_best_is_scored_again_after_a_change(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for measured in ("", "b"):
        checkpoints.save(5, make_state(5), {}, META, {"AP": 0.5}, measured=measured)
    checkpoints.close()
    assert saved_steps(tmp_path, "best") == saved_steps(tmp_path, "earlier_best") == [5]


def test_unknown_best_metric_names_the_measured_ones(tmp_path):
    checkpoints = Checkpoints(tmp_path, best_metric="mAP")
    with pytest.raises(UserError, match="AP, AP50"):
        checkpoints.save(1, make_state(1), {}, META, metrics={"AP": 0.1, "AP50": 0.2})
    checkpoints.close()


def test_saving_the_same_step_again_changes_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(5, make_state(5), {"next_index": 5}, META)
    checkpoints.save(5, make_state(6), {"next_index": 6}, META, metrics={"AP": 0.1})
    state, iterator, _ = checkpoints.restore(make_state(0))
    checkpoints.close()
    assert_identical(state, make_state(5))
    assert iterator == {"next_index": 5}
    assert saved_steps(tmp_path, "best") == [5]


@pytest.mark.parametrize("ema", [True, False])
def test_weights_without_a_model(tmp_path, ema):
    save_steps(tmp_path, [2, 4])
    weights = read_weights(tmp_path, ema=ema)
    state = make_state(4)
    expected = {
        "params": state.ema_params if ema else state.params,
        "batch_stats": state.ema_batch_stats if ema else state.batch_stats,
    }
    assert_identical(weights, jax.tree.map(np.asarray, expected))
    assert {type(leaf) for leaf in jax.tree.leaves(weights)} == {np.ndarray}
    assert_identical(read_weights(tmp_path, 2, ema=False)["params"], make_state(2).params)


def test_weights_of_a_model_without_batch_stats_or_average(tmp_path):
    state = {"params": {"kernel": jnp.ones(3)}, "batch_stats": {}}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, {}, META)
    checkpoints.close()
    assert_identical(read_weights(tmp_path, ema=False), jax.tree.map(np.asarray, state))
    with pytest.raises(UserError, match="ema=False"):
        read_weights(tmp_path)


def test_best_is_read_by_default_and_latest_on_request(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, make_state(1), {}, {"step": 1}, metrics={"AP": 0.3})
    checkpoints.save(2, make_state(2), {}, {"step": 2}, metrics={"AP": 0.2})
    checkpoints.close()
    steps = [restore_meta(tmp_path, step)["step"] for step in (None, "best", "latest", 1, 2)]
    assert steps == [1, 1, 2, 1, 2]
    assert_identical(read_weights(tmp_path, "latest", ema=False)["params"], make_state(2).params)


def test_no_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    for read in (
        lambda: checkpoints.restore(make_state(0)),
        lambda: checkpoints.restore(make_state(0), step="best"),
        lambda: restore_meta(tmp_path / "run"),
        lambda: read_weights(tmp_path / "elsewhere"),
    ):
        with pytest.raises(UserError, match="no checkpoint below checkpoints/") as error:
            read()
        assert "\n" not in str(error.value)
        assert "workdir" in str(error.value)
    checkpoints.close()
    assert not (tmp_path / "elsewhere").exists()


def test_an_absent_step_names_those_that_exist(tmp_path):
    save_steps(tmp_path, [2, 4])
    with pytest.raises(UserError, match=r"no checkpoint 3; there are latest: \[2, 4\], best: none"):
        read_weights(tmp_path, 3)


def test_a_workdir_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="choose another workdir"):
        Checkpoints(tmp_path / "file")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"width": 8}, r"params/backbone/stem/kernel is float32 \(3, 3, 3, 4\) .* \(3, 3, 3, 8\)"),
        ({"classes": 9}, r"params/class_net/bias is bfloat16 \(3,\) .* \(9,\)"),
        ({"optimizer": "adamw"}, r"opt_state/\S+ is absent .* and \S+ \(.*\) in this run"),
    ],
)
def test_a_state_of_another_model_is_refused_by_name(tmp_path, change, named):
    save_steps(tmp_path, [1, 2])
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(UserError, match=named) as error:
        checkpoints.restore(make_state(0, **change))
    checkpoints.close()
    assert "\n" not in str(error.value)
    assert saved_steps(tmp_path, "latest") == [1, 2]


def truncate(path, pattern):
    for file in path.glob(pattern):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGES = {
    "arrays cut off": lambda path: truncate(path, "state/**/d/*"),
    "structure cut off": lambda path: truncate(path, "state/_METADATA"),
    "meta cut off": lambda path: truncate(path, "meta/*"),
    "state missing": lambda path: shutil.rmtree(path / "state"),
    "iterator missing": lambda path: shutil.rmtree(path / "iterator"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_step_falls_back_to_the_one_before(tmp_path, damage, caplog, capfd):
    save_steps(tmp_path, [1, 2, 3], keep_latest=3)
    DAMAGES[damage](tmp_path / "checkpoints" / "latest" / "3")
    checkpoints = Checkpoints(tmp_path, keep_latest=3)
    state, iterator, _ = checkpoints.restore(make_state(0))
    assert_identical(state, make_state(2))
    assert iterator == {"next_index": 2}
    assert "latest/3 cannot be read" in caplog.text
    assert capfd.readouterr().err == ""
    assert saved_steps(tmp_path, "unreadable") == [3]
    assert checkpoints.latest_step == 2

    # The run reaches step 3 again.
    checkpoints.save(3, make_state(3), {}, META)
    state, _, _ = checkpoints.restore(make_state(0))
    assert_identical(state, make_state(3))
    checkpoints.close()


def test_nothing_readable_moves_nothing(tmp_path):
    save_steps(tmp_path, [1, 2])
    for step in "12":
        DAMAGES["meta cut off"](tmp_path / "checkpoints" / "latest" / step)
    checkpoints = Checkpoints(tmp_path)
    for read in (lambda: checkpoints.restore(make_state(0)), lambda: restore_meta(tmp_path)):
        with pytest.raises(UserError, match=r"latest/2: the checkpoint is damaged") as error:
            read()
        assert "\n" not in str(error.value)
    checkpoints.close()
    assert saved_steps(tmp_path, "latest") == [1, 2]


def test_a_save_that_was_killed_is_ignored(tmp_path):
    save_steps(tmp_path, [1, 2])
    latest = tmp_path / "checkpoints" / "latest"
    shutil.copytree(latest / "2", latest / "3.orbax-checkpoint-tmp")
    checkpoints = Checkpoints(tmp_path)
    state, _, _ = checkpoints.restore(make_state(0))
    assert_identical(state, make_state(2))
    checkpoints.save(3, make_state(3), {}, META)
    checkpoints.close()
    assert restore_meta(tmp_path) == META


def test_saving_and_restoring_warn_of_nothing(tmp_path, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_steps(tmp_path, [1])
        checkpoints = Checkpoints(tmp_path)
        checkpoints.restore(make_state(0))
        checkpoints.close()
        read_weights(tmp_path)
    assert json.loads((tmp_path / "checkpoints/latest/1/meta/metadata").read_text())["names"]
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ""
