"""The command that downloads weights; nothing is downloaded here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bifpn_jax.commands import fetch_weights
from bifpn_jax.errors import UserError
from bifpn_jax.runs.interruption import Interrupted
from bifpn_jax.weights.published.catalog import weights_catalog

ROOT = Path(__file__).resolve().parents[2]


def run(*words, folder):
    return subprocess.run(
        [sys.executable, "-m", "bifpn_jax", "weights", *words],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "BIFPN_JAX_WEIGHTS": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_table_of_all():
    catalog = weights_catalog()
    headings, *lines = fetch_weights.table(catalog.values()).splitlines()
    assert headings.startswith("name ")
    assert len(lines) == len(catalog)
    assert [line.split()[0] for line in lines] == list(catalog)
    line = next(line for line in lines if line.startswith("tf_efficientdet_d0 "))
    words = "tf_efficientdet_d0 d0 .pth 0.342 COCO val AP f153e0cf Apache-2.0"
    assert line.split() == words.split()
    assert max(map(len, lines)) <= 110


def test_paths_are_printed(monkeypatch, capsys):
    monkeypatch.setattr(fetch_weights, "fetch", lambda entry: Path("cache") / entry.file)
    fetch_weights.fetch_all(["efficientdet-d0", "tf_efficientdet_d1_40-a30f94af.pth"])
    assert capsys.readouterr().out == (
        f"{Path('cache/efficientdet-d0.tar.gz')}\n{Path('cache/tf_efficientdet_d1.pth')}\n"
    )


def test_nothing_is_fetched_before_all_names_are_known(monkeypatch):
    monkeypatch.setattr(fetch_weights, "fetch", lambda entry: pytest.fail("fetched"))
    with pytest.raises(UserError, match="did you mean efficientdet-d"):
        fetch_weights.fetch_all(["tf_efficientdet_d0", "efficientdet-dO"])
    with pytest.raises(UserError, match="--list"):
        fetch_weights.fetch_all([])


def test_ctrl_c_leaves_with_a_line(monkeypatch, capsys):
    def stop(entry):
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch_weights, "fetch", stop)
    with pytest.raises(Interrupted):
        fetch_weights.fetch_all(["tf_efficientdet_d0"])
    assert capsys.readouterr().err == "stopped; the same command continues from here.\n"


def test_listing(monkeypatch, capsys):
    monkeypatch.setattr(fetch_weights.flags, "FLAGS", SimpleNamespace(list=True))
    fetch_weights.main([])
    assert capsys.readouterr().out == fetch_weights.table(weights_catalog().values()) + "\n"


def test_the_command_says_what_is_wrong_in_one_line(tmp_path):
    result = run("tf_efficientdet_d9", folder=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: no published weights called 'tf_efficientdet_d9'")
    assert result.stderr.count("\n") == 1


def test_the_command_finds_what_the_cache_has(tmp_path, shared):
    target = tmp_path / "efficientdet_lite0_int8.tflite"
    shutil.copy(shared / "weights" / "efficientdet_lite0_coco_int8.tflite", target)
    result = run("efficientdet_lite0_int8", folder=tmp_path)
    assert result.stderr == ""
    assert result.stdout == f"{target}\n"
