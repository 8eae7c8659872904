"""What a printed command line means, found out by the command's own code and without its cost."""

import importlib.metadata
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from absl import flags
from in_process import ROOT, run_command
from ml_collections import config_flags

from bifpn_jax.command_line import command
from bifpn_jax.command_line.network_file import read_network
from bifpn_jax.models.networks import network_graph
from bifpn_jax.models.scaling import MODELS
from bifpn_jax.recipe.checks import check_config
from bifpn_jax.weights.published.catalog import find_published, published
from experiments import benchmark, compare_effdet, figures, tables
from experiments.performance import device_scaling, lowered_forms
from experiments.performance.options import parse_cases
from experiments.sweeps.plan import Study, parse_seeds, plan_runs, read_rows

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


class Meaning(NamedTuple):
    """What a command reads and writes.

    Attributes:
        needs: files and folders that must be there, as they are named.
        makes: what it leaves.
        run: folder and config, as JSON, of a training run; two in one folder must be the same.
    """

    needs: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    run: tuple[str, str] | None = None


def experiment(name: str, words: list[str], folder: Path) -> Meaning:
    """Parses the words of ``bifpn NAME`` or ``python -m experiments.NAME``, and checks them.

    Raises:
        AssertionError: the command would refuse it, with the line that it would say.
    """
    found: list[Meaning] = []
    original = command._call

    def instead(_: object, rest: list[str], *more: Any) -> int | None:
        return original(lambda rest: found.append(_meaning(name, rest)), rest, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "_call", instead)
        ended = run_command(name, *words, folder=folder)
    assert ended.status == 0, ended.err
    if any(word.startswith("--help") for word in words):
        assert ended.out
        return Meaning()
    assert found, f"experiments.{name} has not come to its flags"
    return found[0]


def _meaning(name: str, words: list[str]) -> Meaning:
    given = {flag: flags.FLAGS[flag].value for flag in flags.FLAGS}
    assert name in _KINDS, f"say in {__name__} what experiments.{name} reads and writes"
    if "config" in given:
        check_config(given["config"])
    return _KINDS[name](given, words)


def _data(config: Any, *fields: str) -> tuple[str, ...]:
    data = config.data
    assert data.source != "coco_json" or all(data[field] for field in fields), "no data is named"
    return tuple(data[field] for field in fields if data.source == "coco_json")


def _weights(source: str) -> tuple[str, ...]:
    """A file or folder that weights come from; nothing where they are published ones."""
    return () if not source or find_published(source) else (source,)


def _training(given: dict[str, Any], workdir: str) -> Meaning:
    config = given["config"]
    fields = [
        f"{split}_{what}" for split in ("train", "eval") for what in ("images", "annotations")
    ]
    needs = (*_data(config, *fields), *_weights(config.init_from))
    return Meaning(needs, (workdir,), (workdir, config.to_json(sort_keys=True)))


def _main(given: dict[str, Any], _: list[str]) -> Meaning:
    return _training(given, given["workdir"] or f"runs/{given['config'].name}")


def _sweep(given: dict[str, Any], _: list[str]) -> Meaning:
    flag = flags.FLAGS["config"]
    file = config_flags.get_config_filename(flag)
    overrides = dict(config_flags.get_override_values(flag))
    workdir = given["workdir"] or f"runs/{Path(file.partition(':')[0]).stem}"
    study = Study(file, given["config"], overrides, read_rows(file))
    seeds = parse_seeds(given["seeds"])[:1]  # the rows are the same with each
    assert plan_runs(study, Path(workdir), seeds=seeds, rows=given["rows"])
    return _training(given, workdir)


def _inspect_data(given: dict[str, Any], _: list[str]) -> Meaning:
    return Meaning(_data(given["config"], "train_images", "train_annotations"), (given["output"],))


def _evaluate(given: dict[str, Any], words: list[str]) -> Meaning:
    assert given["model"] in ("", *MODELS)
    named = (given.get("images"), given.get("annotations"), *words)
    needs = (*_weights(given["weights"]), *(name for name in named if name))
    return Meaning(needs, (given["output"],))


def _memorize(given: dict[str, Any], _: list[str]) -> Meaning:
    assert given["model"] in MODELS
    return Meaning((given["images"], given["annotations"]), (given["workdir"],))


def _tables(given: dict[str, Any], words: list[str]) -> Meaning:
    assert tables.choose("tables", given["tables"], tables.TABLES)
    return Meaning(tuple(words), (given["output"],))


def _figures(given: dict[str, Any], words: list[str]) -> Meaning:
    assert tables.choose("figures", given["figures"], figures.FIGURES)
    return Meaning(tuple(words), (given["output"],))


def _draw_network(given: dict[str, Any], words: list[str]) -> Meaning:
    assert words
    for word in words:
        network_graph(read_network(word), given["min_level"], given["max_level"])
    return Meaning((), (given["output"],))


def _fetch_weights(given: dict[str, Any], words: list[str]) -> Meaning:
    assert words or given["list"]
    assert all(published(word) for word in words)
    return Meaning()


def _benchmark(given: dict[str, Any], words: list[str]) -> Meaning:
    assert set(words) <= {*benchmark.PARTS, benchmark.CEILINGS}, words
    for part in ("forward", "train", "memory"):
        assert parse_cases(part, given[part])
    return Meaning(tuple(filter(None, (given["images"], given["annotations"]))), (given["output"],))


def _compare_effdet(_: dict[str, Any], words: list[str]) -> Meaning:
    for word in words:
        compare_effdet.our_model(*word.partition(":")[::2])
    return Meaning()


def _released(given: dict[str, Any], _: list[str]) -> Meaning:
    assert set(given["models"]) <= set(MODELS)
    assert set(given.get("compile", ())) <= set(device_scaling.DETECTORS)
    return Meaning((), tuple(filter(None, (given.get("output"),))))


def _lowered_forms(given: dict[str, Any], _: list[str]) -> Meaning:
    assert given["model"] in MODELS
    assert set(given["forms"]) <= set(lowered_forms.FORMS)
    return Meaning((), ())


def _output(given: dict[str, Any], _: list[str]) -> Meaning:
    return Meaning((), (given["output"],))


_KINDS: dict[str, Callable[[dict[str, Any], list[str]], Meaning]] = {
    "benchmark": _benchmark,
    "compare_effdet": _compare_effdet,
    "performance.device_scaling": _released,
    "draw": _draw_network,
    "eval": _evaluate,
    "export": _evaluate,
    "weights": _fetch_weights,
    "figures": _figures,
    "performance.fusion_speed": _output,
    "inspect": _inspect_data,
    "main": _main,
    "train": _main,
    "memorize": _memorize,
    "predict": _evaluate,
    "performance.lowered_forms": _lowered_forms,
    "performance.roofline": _released,
    "performance.soak": _output,
    "sweep": _sweep,
    "tables": _tables,
}


def pytest_line(words: list[str], folder: Path) -> Meaning:
    """Checks the arguments of pytest: tests that are there, and options that it knows."""
    for word in words:
        known = word == "--slow" or re.fullmatch("--hypothesis-profile=(default|nightly)", word)
        assert known or (folder / word.partition("::")[0]).exists(), f"pytest: {word}?"
    paths = [ROOT / word for word in words if not word.startswith("-")]
    if "--slow" in words:
        files = [f for path in paths for f in (path.rglob("*.py") if path.is_dir() else [path])]
        assert any("mark.slow" in file.read_text() for file in files), "none of them is slow"
    return Meaning()


def pip_line(words: list[str], folder: Path) -> Meaning:
    """Checks the arguments of pip: files that are there, and extras that packages have."""
    assert words[0] == "install"
    rest = words[1:]
    while rest:
        word = rest.pop(0)
        if word == "-c":
            assert (folder / rest.pop(0)).is_file()
        elif word != "-e":
            name, extras = re.fullmatch(r"([.\w-]+)(?:\[([\w,]+)\])?", word).groups()
            known = list(PROJECT["optional-dependencies"])
            if name != ".":
                known = importlib.metadata.metadata(name).get_all("Provides-Extra") or []
            for extra in filter(None, (extras or "").split(",")):
                # A package writes its extras with either of - and _.
                assert extra in known, f"{word}: there are the extras {', '.join(known)}"
    return Meaning()
