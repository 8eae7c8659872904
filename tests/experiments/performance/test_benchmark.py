"""The benchmark: taking turns, its parts on small models, and its pages."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from absl import flags

from bifpn_jax.errors import UserError
from bifpn_jax.models.detector import create_model
from experiments import benchmark
from experiments.paper import counts
from experiments.paper.table import to_markdown
from experiments.performance import (
    ceilings,
    child,
    coco_scoring,
    effdet_peer,
    input_pipeline,
    network,
    predictions,
    programs,
    resources,
)
from experiments.performance.contest import OURS, Contest, compete
from experiments.performance.options import Case, Options, parse_cases
from experiments.performance.report import contest_table, share_table, write_report

SMALL = {"backbone": "nano", "width": 8, "network_repeats": 1, "head_repeats": 1}


@pytest.fixture
def options(monkeypatch):
    monkeypatch.setattr("experiments.performance.contest._TURN", 0.0)
    return Options(
        rounds=2,
        forward=(Case("d0", 1),),
        train=(Case("d0", 2),),
        memory=(Case("d0", 4), Case("lite0", 8)),
        images=None,
        annotations=None,
        peers=False,
    )


@pytest.fixture
def small_models(monkeypatch):
    """Every released model is a tiny one."""
    released = counts.released_config

    def small_config(name, *dtype):
        config = released(name, *dtype)
        config.model.update(SMALL | {"image_hw": (64, 64)})
        return config

    monkeypatch.setattr(counts, "released_config", small_config)


def test_contestants_take_turns_and_warm_up_does_not_count(monkeypatch):
    order, clock = [], itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    contestants = {OURS: lambda: order.append("a"), "other": lambda: order.append("b")}
    contest = compete("work", contestants, rounds=3, warmup=1)
    assert order == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert {name: len(values) for name, values in contest.values.items()} == {OURS: 3, "other": 3}


def test_a_turn_of_quick_work_is_the_median_of_several_calls(monkeypatch):
    now, durations = 0.0, itertools.cycle([0.3, 0.1, 0.1])

    def run():
        nonlocal now
        now += next(durations)

    monkeypatch.setattr("time.perf_counter", lambda: now)
    contest = compete("work", {OURS: run}, rounds=2, warmup=0)
    assert contest.values[OURS] == pytest.approx([0.1, 0.1])
    assert now == pytest.approx(1.0)


def test_a_ratio_above_one_says_that_ours_is_faster():
    contest = Contest("work", "d0", "s", {OURS: [1.0, 2.0, 1.0], "other": [3.0, 2.0, 2.0]})
    assert contest.ratios("other") == [3.0, 1.0, 2.0]
    content = contest.as_json()
    assert content["median_ratio"] == {"other": 2.0}
    assert content["median"] == {OURS: 1.0, "other": 2.0}


def test_the_tables():
    contests = [
        Contest("forward", "d0", "s", {OURS: [0.1, 0.1], "effdet": [0.25, 0.35]}),
        Contest("compile", "d0", "s", {OURS: [12.0]}, ("trace 3 s",)),
        Contest("memory", "", "MiB", {OURS: [1000.0], "effdet": [2500.0]}),
    ]
    table = contest_table(contests)
    assert [tuple(row) for row in table.rows] == [
        ("forward, d0", "100.0 ms", "effdet", "300.0 ms", "3.00", "2.75 – 3.25"),
        ("compile, d0", "12.00 s", "", "", "", ""),
        ("memory", "1,000 MiB", "effdet", "2,500 MiB", "2.50", ""),
    ]
    assert table.notes == ["compile, d0: trace 3 s."]
    shares = {"d0, batch 1": [ceilings.Share("heads", 0.5, 1e9, 2e9)]}
    table = share_table(ceilings.Ceilings(4e9, 8e9), shares)
    assert table.rows == [("d0, batch 1: heads", "500.0", "1.00", "2000", "50", "50")]
    assert "4 G operations/s" in to_markdown(table)


def test_the_files(tmp_path):
    contests = [Contest("forward", "d0", "s", {OURS: [0.1], "effdet": [0.25]})]
    page = write_report(tmp_path, {"device": "cpu"}, contests, None, {})
    assert (tmp_path / "benchmark.md").read_text() == page
    content = json.loads((tmp_path / "benchmark.json").read_text())
    assert content["contests"][0]["values"] == {OURS: [0.1], "effdet": [0.25]}
    assert content["setting"] == {"device": "cpu"}


def test_cases():
    assert parse_cases("forward", ["d0:1", "lite0:8"]) == (Case("d0", 1), Case("lite0", 8))
    for word, message in (
        ("d9:1", "--forward=d9:1: no model 'd9'"),
        ("d0", "write MODEL:BATCH"),
        ("d0:0", "write MODEL:BATCH"),
    ):
        with pytest.raises(UserError, match=message):
            parse_cases("forward", [word])


def test_the_network_beside_the_forms_of_a_peer(options, small_models, monkeypatch):
    made = []

    def program(*arguments):
        made.append(arguments)
        return lambda: None

    def forms(name, image_hw, *arguments, dtype):
        assert dtype == "float32"
        assert (name, image_hw) == ("d0", (64, 64))
        return {"effdet eager": program(), "effdet compiled": program()}

    for module, name in ((programs, "forward"), (programs, "training_step")):
        monkeypatch.setattr(module, name, program)
    for name in ("forward_forms", "train_forms"):
        monkeypatch.setattr(effdet_peer, name, forms)
    monkeypatch.setattr(network, "init_variables", lambda model, seed: {})
    for part in (network.forward, network.train):
        (contest,) = part(options._replace(peers=True))
        assert list(contest.values) == [OURS, "effdet eager", "effdet compiled"]
    assert [arguments[-1] for arguments in made if arguments] == [1, 2]  # the batch sizes


@pytest.mark.slow
def test_the_network(options, small_models):
    for part, work in ((network.forward, "forward"), (network.train, "training step")):
        (contest,) = part(options)
        assert contest.work.startswith(work)
        assert contest.model == "d0"
        assert len(contest.values[OURS]) == options.rounds


@pytest.mark.slow
def test_predictions(options, small_models, monkeypatch):
    monkeypatch.setattr(predictions, "_BATCH", 2)
    for part in (predictions.postprocessing, predictions.end_to_end):
        (contest,) = part(options)
        assert list(contest.values) == [OURS]


def test_post_processing_gets_the_peers_arrays_in_our_order():
    model = create_model("d0", **SMALL, num_classes=3, image_hw=(64, 64))
    logits, _ = predictions._level_maps(model)
    assert [x.shape[1:] for x in logits] == [(27, side, side) for side in (8, 4, 2, 1, 1)]
    flat = predictions._flatten(logits, 3)
    assert flat.shape[1:] == (9 * (64 + 16 + 4 + 1 + 1), 3)
    # Anchor 4 of the cell in row 2, column 3 of the finest level, class 1.
    assert flat[0, (2 * 8 + 3) * 9 + 4, 1] == logits[0][0, 4 * 3 + 1, 2, 3]


def test_the_input_pipeline(options, monkeypatch):
    small = {"_HW": (64, 64), "_BATCH": 4, "_BATCHES": 2, "_DRAWN": 5, "_REST": 0.0}
    for name, value in small.items():
        monkeypatch.setattr(input_pipeline, name, value)
    (contest,) = input_pipeline.input_pipeline(options)
    assert set(contest.values) == {OURS, input_pipeline.STACKED, input_pipeline.BARE}
    with pytest.raises(UserError, match="--images and --annotations go together"):
        input_pipeline.input_pipeline(options._replace(images="pictures"))


def test_what_was_read_ahead_is_not_timed(monkeypatch):
    order, clock = [], itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: order.append("clock") or float(next(clock)))
    monkeypatch.setattr("time.sleep", lambda seconds: order.append("rest"))
    readers = {
        OURS: input_pipeline.Reader(lambda: order.append("a"), lambda: order.append("discard")),
        "other": input_pipeline.Reader(lambda: order.append("b")),
    }
    seconds = input_pipeline.time_readers(readers, rounds=3)
    assert seconds == {OURS: [1.0] * 3, "other": [1.0] * 3}
    assert [step for step in order if step in "ab"] == list("abba" * 2 + "ab")
    last = ["discard", "clock", "a", "clock", "rest", "clock", "b", "clock", "rest"]
    assert order[-9:] == last
    assert order.count("discard") == 5


def test_evaluation_is_compared_before_it_is_timed(options, monkeypatch):
    monkeypatch.setattr(coco_scoring, "_IMAGES", 10)
    (contest,) = coco_scoring.coco_evaluation(options)
    assert set(contest.values) == {OURS, "pycocotools"}
    monkeypatch.setattr(coco_scoring, "with_pycocotools", lambda truth, found: [0.5] * 12)
    with pytest.raises(UserError, match="the evaluation gives"):
        coco_scoring.coco_evaluation(options)


def test_the_made_up_detections_are_worth_scoring():
    ap = coco_scoring.with_pycocotools(*coco_scoring.made_up(50))[0]
    assert 0.005 < ap < 0.5


def test_ceilings(monkeypatch):
    monkeypatch.setattr(ceilings, "_SIDE", 64)
    monkeypatch.setattr(ceilings, "_LENGTH", 4096)
    found = ceilings.measure_ceilings(2)
    assert found.flops > 0
    assert found.bandwidth > 0


@pytest.mark.slow
def test_the_parts_of_a_forward_pass_add_up_to_the_whole():
    model = create_model("d0", **SMALL, num_classes=3, image_hw=(64, 64))
    shares = ceilings.measure_shares(model, 1, 1)
    assert [share.part for share in shares] == [
        "backbone_features",
        "network_features",
        "heads",
        "whole",
    ]
    whole = shares[-1]
    assert whole.flops == sum(share.flops for share in shares[:-1])
    assert all(share.flops > 0 for share in shares)


def test_compilation_and_memory_are_rows(options, monkeypatch):
    calls = []

    def measured(what, model, batch_size, cache, remat=""):
        calls.append((what, model, batch_size, remat))
        return {
            "init": {"seconds": 2.0},
            "compile": {"seconds": 6.0},
            "memory": {"before": 100.0, "peak": 900.0},
            "effdet_memory": {"before": 100.0, "peak": 1800.0},
        }[what]

    monkeypatch.setattr(resources, "measure_in_child", measured)
    found = [(contest.work, contest.values[OURS]) for contest in resources.compilation(options)]
    assert found == [
        ("draw the initial values, cold", [2.0]),
        ("compile the training step, batch 2, cold", [6.0]),
        ("draw the initial values, warm", [2.0]),
        ("compile the training step, batch 2, warm", [6.0]),
    ]
    contest, other = resources.memory(options._replace(peers=True, remat="heads"))
    assert contest.ratios("effdet channels-last") == [2.0]
    assert (other.model, other.work) == (
        "lite0",
        "peak memory of the training step, batch 8, remat=heads",
    )
    assert calls.count(("memory", "d0", 4, "heads")) == 2  # the first one compiles
    assert calls.count(("effdet_memory", "lite0", 8, "")) == 1


def test_a_child_that_fails_is_reported_in_one_line(tmp_path):
    with pytest.raises(UserError, match="measuring compile of d99 failed: ModuleNotFoundError"):
        child.measure_in_child("compile", "d99", 1, tmp_path)


def test_the_peak_grows_with_what_is_held():
    """In a process of its own: this one's peak may lie far above what it holds now."""
    program = """
import json
import numpy as np
from experiments.performance import child
held = []
print(json.dumps(child._peak(lambda: held.append(np.ones(2**23)))))  # 64 MiB, three times
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert found["peak"] >= found["before"] + 150


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(coco_scoring, "_IMAGES", 5)
    monkeypatch.setattr(effdet_peer, "missing", lambda: "effdet is not installed")
    monkeypatch.setattr(benchmark, "FLAGS", flag_values(output=str(tmp_path)))
    benchmark.main(["evaluation"])
    printed = capsys.readouterr().out
    assert "COCO evaluation, 5 images" in printed
    assert "- peers: effdet is not installed" in printed
    with pytest.raises(
        UserError, match="speed is not a part of the benchmark; there are forward, "
    ):
        benchmark.main(["speed"])


def flag_values(**changes):
    values = flags.FlagValues()
    flags.DEFINE_integer("rounds", 2, "", flag_values=values)
    flags.DEFINE_list("forward", "d0:1", "", flag_values=values)
    flags.DEFINE_list("train", "d0:2", "", flag_values=values)
    flags.DEFINE_list("memory", "d0:4", "", flag_values=values)
    for name in ("images", "annotations", "output"):
        flags.DEFINE_string(name, changes.get(name, ""), "", flag_values=values)
    flags.DEFINE_string("dtype", "float32", "", flag_values=values)
    flags.DEFINE_string("remat", "", "", flag_values=values)
    flags.DEFINE_bool("peers", True, "", flag_values=values)
    values(sys.argv[:1])
    return values


def test_a_missing_peer_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "effdet", None)
    assert 'pip install -e ".[peers]"' in effdet_peer.missing()


def test_a_training_batch_is_padded():
    made = programs.training_batch(2, (64, 96), 20)
    assert made["boxes"].shape == (2, 20, 4)
    assert (made["labels"] >= 0).sum() == 2 * 8
    assert np.all(made["boxes"][:, :8, 2:] > made["boxes"][:, :8, :2])
    assert np.all(made["boxes"] <= np.array([64, 96, 64, 96]))
