"""Tables from a fixed folder of small logs, study_logs/, whose numbers are easily worked out."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import pytest

from bifpn_jax.errors import UserError
from bifpn_jax.models.detector import create_model
from bifpn_jax.recipe import base
from experiments.paper import (
    backbone_table,
    counts,
    fusion_table,
    latency,
    models_table,
    networks_table,
    paper_numbers,
    scaling_table,
)
from experiments.paper.finished_runs import read_results, read_study
from experiments.paper.study_table import reference_row, study_table
from experiments.paper.table import NOT_GIVEN, NOT_RUN, format_cell, to_markdown
from experiments.tables import choose, write_tables

ROOT = Path(__file__).resolve().parents[3]
LOGS = Path(__file__).resolve().parents[1] / "study_logs"
FUSION, SCALING, NETWORKS = (LOGS / name for name in ("fusion", "scaling", "feature_networks"))


@pytest.fixture
def copy(tmp_path):
    """Copies a study to a folder that may be written to."""

    def copied(folder):
        return Path(shutil.copytree(folder, tmp_path / folder.name))

    return copied


@pytest.fixture
def small_configs(monkeypatch):
    """Stands in for the configs at the paper's scale, whose counts take a minute."""

    def configs(study):
        rows = {
            "backbone_vs_bifpn": {"retinanet_fpn": {"width": 24}, "bifpn": {}},
            "feature_networks": {
                "panet": {"feature_network": "effdet_pan"},
                "fpn": {"feature_network": "fpn"},
                "bifpn": {},
                "qufpn": {"feature_network": "qufpn"},
            },
        }[study]
        return {row: small_config(**fields) for row, fields in rows.items()}

    monkeypatch.setattr(counts, "study_configs", configs)


@pytest.fixture(autouse=True)
def quick_counts(request, monkeypatch):
    """Counts that can be worked out by hand, unless a test asks for `real_counts`."""
    if "real_counts" in request.fixturenames:
        return

    def network(model):
        nodes = {"fpn": 8, "effdet_pan": 10, "bifpn": 9}.get(model.feature_network, 15)
        return counts.Counts(1000 * nodes, 1e6 * nodes * model.width)

    def whole(model):
        height, width = model.image_hw
        parameters = 10_000 * model.width + network(model).parameters
        return counts.Counts(parameters, 1e6 * height * width)

    monkeypatch.setattr(counts, "count_network", network)
    monkeypatch.setattr(counts, "count_model", whole)


@pytest.fixture
def real_counts():
    """Asks for the real counts."""


def small_config(**fields):
    config = base.get_config("d0")
    config.model.update({"backbone": "nano", "image_hw": (64, 64), "width": 16, "head_repeats": 1})
    config.model.update({"network_repeats": 1, "max_level": 5, "fusion": "sum", **fields})
    return config


def change(path, **values):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **values}))


def by_row(table):
    titles = [column.title for column in table.columns]
    return {row[0]: dict(zip(titles, row, strict=True)) for row in table.rows}


# --- Counts.


def test_counts_of_the_feature_network_alone(real_counts):
    model = create_model("d0")
    # The closed formula: P6 from P5, and three cells of BiFPN.
    assert counts.count_network(model).parameters == 20_672 + 175_609
    assert counts.count_model(model).parameters == 3_880_067
    one, two = (counts.model_of(small_config(network_repeats=repeats), 4) for repeats in (1, 2))
    of_model = [counts.count_model(model) for model in (one, two)]
    of_network = [counts.count_network(model) for model in (one, two)]
    for field in (0, 1):
        assert (
            of_model[1][field] - of_model[0][field] == of_network[1][field] - of_network[0][field]
        )
    assert 0 < of_network[0].multiply_adds < of_model[0].multiply_adds


def test_the_studies_at_the_paper_scale():
    for study in (networks_table.STUDY, backbone_table.STUDY):
        configs = counts.study_configs(study)
        assert set(paper_numbers.NETWORKS if study == networks_table.STUDY else ["bifpn"]) <= set(
            configs
        )
        assert all(config.study == study for config in configs.values())
    assert networks_table.REFERENCE in counts.study_configs(networks_table.STUDY)
    assert set(paper_numbers.BACKBONES) - set(counts.study_configs(backbone_table.STUDY)) == {
        paper_numbers.RESNET_BASELINE
    }


# --- The tables.


def test_table_1():
    table = scaling_table.table1()
    assert table.notes == ["Ours equal the paper's in every cell."]
    row = by_row(table)["D5"]
    assert [row[f"Channels: {whose}"] for whose in ("rule", "paper", "ours")] == [
        pytest.approx(64 * 1.35**5),
        288,
        288,
    ]
    assert [row[f"Input size: {whose}"] for whose in ("rule", "paper", "ours")] == [
        1152,
        1280,
        1280,
    ]
    assert (
        "| D7x | 7 | B7 | B7 | 1408 | 1536 | 1536 | 523 | 384 | 384 | 10 | 8 | 8 | 5 | 5 | 5 |"
        in (to_markdown(table))
    )


def test_table_2(real_counts, monkeypatch, copy):
    monkeypatch.setattr(paper_numbers, "EFFICIENTDET", {"d0": paper_numbers.EFFICIENTDET["d0"]})
    row = by_row(models_table.table2({}, None))["D0"]
    assert (row["AP: ours"], row["Latency, ms: ours"]) == (NOT_RUN, NOT_RUN)
    assert (row["AP test-dev: paper"], row["AP val: paper"]) == (0.346, 0.343)
    assert row["Parameters, M: ours"] == pytest.approx(3.880067)
    assert row["Multiply-adds, B: ours"] == pytest.approx(2.55, abs=0.01)

    folder = copy(FUSION) / "fast"
    model = json.loads(base.get_config("d0").model.to_json())
    for seed, source in ((0, "shapes"), (1, "shapes")):
        config = folder / f"seed_{seed}" / "config.json"
        change(config, model=model, data={"source": source, "eval_annotations": ""})
    models = read_results([folder / "seed_0", folder / "seed_1"]).models
    table = models_table.table2(models, latency.Latency("a device", {"d0": 5.25}))
    row = by_row(table)["D0"]
    assert format_cell(row["AP: ours"], 4) == "0.4050 ± 0.0071 (n=2)"
    assert row["Latency, ms: ours"] == 5.25
    assert "is on a device" in table.caption
    assert "AP of our D0 is on `shapes` and cannot be compared" in table.notes[0]


def test_table_2_is_of_released_models():
    models = read_results([FUSION / "fast" / "seed_0"]).models
    with pytest.raises(
        UserError, match=r"this d0 is not the released model .*config\.model\.width"
    ):
        models_table.table2(models, None)


def test_table_4(small_configs):
    table = backbone_table.table4(None)
    rows = by_row(table)
    assert list(rows) == ["ResNet50 + FPN", "EfficientNet-B3 + FPN", "EfficientNet-B3 + BiFPN"]
    assert [row["AP: ours"] for row in rows.values()] == [NOT_RUN] * 3
    assert rows["ResNet50 + FPN"]["Parameters, M: ours"] == NOT_RUN
    assert rows["EfficientNet-B3 + BiFPN"]["Parameters, M: ours"] == pytest.approx(0.169)
    assert rows["EfficientNet-B3 + FPN"]["Parameters, M: ours"] == pytest.approx(0.249)
    assert rows["EfficientNet-B3 + FPN"]["Multiply-adds, B: ours"] == pytest.approx(4.096)
    assert "--config=configs/ablations/backbone_vs_bifpn.py" in table.caption


def test_table_5(small_configs):
    table = networks_table.table5(read_study(NETWORKS))
    rows = by_row(table)
    titles = [f"Parameter ratio: ours, {part}" for part in ("network", "model")]
    ratios = {name: [row[title] for title in titles] for name, row in rows.items()}
    assert ratios["Repeated FPN+PANet"] == [1.0, 1.0]
    assert ratios["Repeated top-down FPN"] == pytest.approx([0.8, 168 / 170])
    assert ratios["qufpn"] == pytest.approx([1.5, 175 / 170])
    assert ratios["own_network"] == ["not counted"] * 2
    assert rows["qufpn"]["Multiply-add ratio: ours, network"] == pytest.approx(1.5)
    assert rows["qufpn"]["Multiply-add ratio: ours, model"] == 1.0
    assert rows["qufpn"]["AP: paper"] == NOT_GIVEN
    assert rows["Repeated top-down FPN"]["AP: paper"] == 0.4229
    assert rows["Repeated top-down FPN"]["AP: ours"] == NOT_RUN
    assert format_cell(rows["BiFPN with weights"]["AP: ours"], 4) == "0.3100 (n=1)"
    assert rows["own_network"]["AP: ours"] == NOT_RUN
    assert "They are AP on `shapes`" in table.caption
    assert table.notes[0] == (
        "Further than 0.03 from the paper's, network alone: Repeated top-down FPN, parameters "
        "(0.800 for 1.00); Repeated top-down FPN, multiply-adds (0.800 for 1.00); BiFPN with "
        "weights, multiply-adds (0.900 for 0.68)."
    )
    assert table.notes[-1] == "1 of 3 runs are in no average: own_network/seed_0 not started."


def test_table_6():
    study = read_study(FUSION)
    table = fusion_table.table6(study, fusion_table.read_fusion_speed([SCALING, FUSION]))
    digits = [column.digits for column in table.columns]
    rows = {
        name: [format_cell(*cell) for cell in zip(row.values(), digits, strict=True)]
        for name, row in by_row(table).items()
    }
    assert rows["Paper, model 2"][1:] == ["0.4378", "0.4377", "-0.0001", "1.26", NOT_GIVEN]
    assert rows["Ours"][1:3] == ["0.3200 ± 0.0200 (n=3)", "0.4100 ± 0.0100 (n=3)"]
    assert rows["Ours"][3].startswith("+0.0900 (± 0.04")
    assert rows["Ours"][4:] == ["1.20 ± 0.10 (n=3)", "1.05 ± 0.07 (n=2)"]
    assert "was measured on a test device" in table.caption
    assert fusion_table.read_fusion_speed([SCALING]) is None
    empty = by_row(fusion_table.table6(None, None))
    assert list(empty["Ours"].values())[1:] == [NOT_RUN] * 5


@pytest.mark.parametrize("content", [{"device": "x"}, {"forward": {"ratios": []}}, []])
def test_a_damaged_measurement_of_speed(tmp_path, content):
    (tmp_path / "fusion_speed.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="does not hold ratios of forward and train_step"):
        fusion_table.read_fusion_speed([tmp_path])


def test_the_table_of_a_study():
    table = study_table(read_study(SCALING))
    rows = by_row(table)
    assert list(rows["base"].values())[-4:] == ["reference"] * 3 + [20 / 60]
    assert rows["compound_1"]["More than noise"] == "higher"
    assert rows["compound_1"]["AP less that of base"] == "+0.1400"
    assert rows["width_1"]["More than noise"] == "no"
    assert rows["image_size_2"]["AP"] == NOT_RUN
    # Not trained, but counted: it sets what image_size_1 sets.
    assert rows["image_size_2"]["Parameters, M"] == rows["base"]["Parameters, M"]
    assert rows["image_size_2"]["Multiply-adds, B"] > rows["image_size_1"]["Multiply-adds, B"]
    assert rows["width_2"]["Parameters, M"] > rows["width_1"]["Parameters, M"]

    table = study_table(read_study(FUSION))
    assert by_row(table)["sum"]["95 % interval"] == "needs two seeds"
    assert by_row(table)["softmax"]["More than noise"] == "lower"
    assert table.notes == [
        "2 of 9 runs are in no average: sum/seed_1 stopped at step 20, sum/seed_2 not started."
    ]
    assert "cannot be compared with the paper's numbers" in table.caption


def test_a_study_on_coco_or_without_runs(copy):
    folder = copy(NETWORKS)
    for row in ("panet", "bifpn"):
        data = {"source": "coco_json", "eval_annotations": "/data/instances_val2017.json"}
        change(folder / row / "seed_0" / "config.json", data=data)
    assert "evaluated on COCO val2017" in study_table(read_study(folder)).caption
    for row in ("panet", "bifpn"):
        shutil.rmtree(folder / row)
    table = study_table(read_study(folder))
    assert "none of which is finished" in table.caption
    assert all(cell == NOT_RUN for cell in list(by_row(table)["panet"].values())[1:])


def test_a_study_of_ones_own_is_compared_with_its_first_row(copy):
    folder = copy(SCALING)
    change(folder / "sweep.json", study="my_study")
    assert reference_row(read_study(folder)) == "base"
    assert study_table(read_study(folder)).name == "study_my_study"


# --- Latency.


class Tiny(nn.Module):
    image_hw = (8, 8)

    @nn.compact
    def __call__(self, images):
        return nn.Dense(2)(images)


def test_latency_is_kept_and_added_to(tmp_path, monkeypatch):
    monkeypatch.setattr(counts, "model_of", lambda config, num_classes: Tiny())
    said = []
    measured = latency.measure(["d0"], say=said.append, repeats=1)
    assert measured.milliseconds["d0"] > 0
    assert said[0].startswith("d0: ")
    assert latency.read_latency(tmp_path) is None
    latency.write_latency(tmp_path, measured)
    both = latency.write_latency(tmp_path, latency.Latency(measured.device, {"d1": 2.0}))
    assert list(both.milliseconds) == ["d0", "d1"]
    other = latency.write_latency(tmp_path, latency.Latency("another", {"d1": 2.0}))
    assert latency.read_latency(tmp_path) == other == latency.Latency("another", {"d1": 2.0})
    (tmp_path / "latency.json").write_text("{}")
    with pytest.raises(UserError, match="does not hold latencies"):
        latency.read_latency(tmp_path)


# --- The command.


def test_the_files(tmp_path, small_configs):
    (tmp_path / "figure5.md").write_text("# Figure 5\n\nnot run\n")
    written = write_tables(read_results([SCALING, NETWORKS]), tmp_path, ["4", "6"])
    stems = ["table4", "table6", "study_scaling", "study_feature_networks"]
    expected = [f"{stem}.{end}" for stem in stems for end in ("md", "csv")]
    assert written == [*expected, "results.md"]
    page = (tmp_path / "results.md").read_text()
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert headings == [
        "# Results",
        "## Table 4: backbone against BiFPN",
        "## Table 6: softmax against fast fusion",
        "## Study: feature_networks",
        "## Study: scaling",
        "## Figure 5",
    ]
    lines = (tmp_path / "study_scaling.csv").read_text().splitlines()
    assert len(lines) == 1 + 6
    assert not any(",," in line or line.endswith(",") for line in lines)


def test_choosing_tables():
    assert choose("tables", ["5", "1"], ["1", "2", "5"]) == ["1", "5"]
    with pytest.raises(UserError, match="--tables=3: not available; use 1, 2, 5"):
        choose("tables", ["3"], ["1", "2", "5"])


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["--tables=1,6", str(FUSION)], 0, "table1.md, table1.csv, table6.md, table6.csv, study"),
        (["--tables=3"], 2, "error: --tables=3: not available; use 1, 2, 4, 5, 6.\n"),
        ([str(LOGS / "x")], 2, f"error: no sweep.json in {LOGS / 'x'}: there is no such folder;"),
    ],
)
def test_the_command_of_tables(tmp_path, words, status, text):
    result = subprocess.run(
        [sys.executable, "-m", "experiments.tables", *words, f"--output={tmp_path / 'out'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == status
    assert (result.stdout if status == 0 else result.stderr).startswith(text)
    assert (tmp_path / "out" / "results.md").exists() == (status == 0)


@pytest.mark.slow
def test_the_ratios_of_table_5(real_counts):
    table = networks_table.table5(None)
    assert table.notes == ["All ratios of the network alone are within 0.03 of the paper's."]


# --- One unit.


def test_ap_has_one_unit_in_every_table_and_figure(small_configs):
    studies = [read_study(folder) for folder in (FUSION, NETWORKS, SCALING)]
    tables = [
        models_table.table2({}, None),
        backbone_table.table4(None),
        networks_table.table5(studies[1]),
        fusion_table.table6(studies[0], None),
        *map(study_table, studies),
    ]
    for table in tables:
        assert "AP is in COCO's 0 to 1, where the paper prints per cent." in table.caption
        for i, column in enumerate(table.columns):
            if column.title.startswith("AP"):
                cells = [row[i] for row in table.rows]
                values = [getattr(cell, "mean", cell) for cell in cells]
                assert all(value < 1 for value in values if not isinstance(value, str))
                digits = 3 if "paper" in column.title and table.name in ("table2", "table4") else 4
                assert column.digits in (digits, None if "less" in column.title else digits)


def test_the_paper_in_its_own_unit():
    numbers = [n for row in paper_numbers.EFFICIENTDET.values() for n in (row.ap_test, row.ap_val)]
    numbers += [n for row in paper_numbers.OTHERS.values() for n in (row.ap_test, row.ap_val) if n]
    numbers += [
        row.ap for row in (*paper_numbers.BACKBONES.values(), *paper_numbers.NETWORKS.values())
    ]
    assert all(0.3 < number < 0.6 for number in numbers)
    for row in paper_numbers.FUSION.values():
        assert row.difference == pytest.approx(row.fast_ap - row.softmax_ap, abs=1e-9)


def test_runs_of_another_limit_are_not_averaged_with_others(copy):
    folder = copy(FUSION) / "fast"
    runs = [folder / "seed_0", folder / "seed_1"]
    for run in runs:
        change(run / "config.json", eval={"max_detections": 150})
    # Neither file says its limit: both are of COCO's.
    models = read_results(runs).models
    assert [run.config["eval"]["max_detections"] for run in models["d0"]] == [100, 100]
    change(runs[1] / "metrics.json", max_detections=150)
    with pytest.raises(UserError, match=r"eval\.max_detections 100 and 150"):
        read_results(runs)


def test_the_size_of_a_model_does_not_depend_on_the_classes_evaluated(copy):
    run = copy(FUSION) / "fast" / "seed_0"
    listed = len(json.loads((run / "metrics.json").read_text())["per_class"])
    assert read_results([run]).models["d0"][0].num_classes == listed
    change(run / "metrics.json", num_classes=listed + 3)
    assert read_results([run]).models["d0"][0].num_classes == listed + 3
