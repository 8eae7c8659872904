"""The files that install and launch the project."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def normalized(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(file):
    lines = (ROOT / "constraints" / file).read_text().splitlines()
    lines = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line) for line in lines)
    return {normalized(line.split("==")[0]): line.split("==")[1] for line in lines}


@pytest.mark.parametrize("file", ["py311.txt", "py312.txt"])
def test_the_constraints_pin_every_dependency(file):
    pinned = pins(file)
    extras = PROJECT["optional-dependencies"]
    for requirement in PROJECT["dependencies"] + extras["test"] + extras["lint"]:
        name, wanted = re.fullmatch(r"([A-Za-z0-9_-]+)[>=]=([0-9.]+)", requirement).groups()
        version = [int(part) for part in pinned[normalized(name)].split(".")]
        assert version >= [int(part) for part in wanted.split(".")], requirement
    assert pinned["jax"] == pinned["jaxlib"]


def test_python_311_has_the_last_jax_for_it():
    assert pins("py311.txt")["jax"] == "0.10.2"


@pytest.mark.parametrize("script", [*sorted(ROOT.glob("launch/*.sh")), ROOT / ".ci" / "run"])
def test_scripts_are_valid_bash(script):
    subprocess.run(["bash", "-n", script], check=True)


def test_a_missing_python_is_one_clear_line():
    result = subprocess.run(
        ["bash", ROOT / "launch" / "test.sh"],
        env={**os.environ, "PYTHON": "no-such-python"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "no-such-python is not a Python 3.11 or newer" in result.stderr


def test_a_folder_that_is_no_environment_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.txt").touch()
    result = subprocess.run(
        ["bash", ROOT / "launch" / "test.sh"],
        env={**os.environ, "BIFPN_VENV": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "is no virtual environment" in result.stderr
    assert (tmp_path / "thesis.txt").exists()
