"""How the script that really runs the commands judges what became of each."""

import json
import sys

import pytest
import reader_folder
import run_all
from pages import Command
from run_all import DRY, EXPECTED, FAILED, RAN, SKIPPED, STOPPED

# A program in the place of experiments.main, by what the workdir is called.
FAKE = """
import pathlib, signal, sys, time
from os import environ, getcwd

words = dict(word.split("=", 1) for word in sys.argv[1:])
workdir = pathlib.Path(words["--workdir"])

def train(log, text, status):
    path = workdir / "run" / log
    path.mkdir(parents=True) if log.startswith("check") else path.parent.mkdir(parents=True)
    if not log.startswith("check"):
        path.write_text(text)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(status))
    print("trains", flush=True)
    time.sleep(30)

cases = {
    "short": lambda: None,
    "logs": lambda: train("metrics.jsonl", "{}", 75),
    "saves": lambda: train("checkpoints/latest/8", "", 75),
    "loses": lambda: train("metrics.jsonl", "{}", 1),
    "hangs": lambda: train("metrics.jsonl", "", 75),
    "coco": lambda: sys.exit("error: COCO 2017 cannot be downloaded: no network") or 2,
    "wrong": lambda: print("error: there is no such file", file=sys.stderr) or 2,
    "fetch": lambda: print(f"error: {url}: cannot be downloaded (refused)", file=sys.stderr) or 2,
    "noisy": lambda: print(f"x\\nerror: {url}: cannot be downloaded", file=sys.stderr) or 2,
    "soft": lambda: print(f"error: {url}: cannot be downloaded", file=sys.stderr) or 1,
    "network": lambda: environ["https_proxy"] != "http://127.0.0.1:9",
    "copy": lambda: environ["PYTHONPATH"] != getcwd(),
}
url = "https://host/x"
sys.exit(cases[workdir.name]())
"""


@pytest.fixture
def run(tmp_path):
    """Runs a command in a checkout whose experiments.main is the fake program."""
    checkout = tmp_path / "checkout"
    (tmp_path / "output").mkdir()
    (checkout / "experiments").mkdir(parents=True)
    (checkout / "experiments" / "main.py").write_text(FAKE)
    (checkout / "launch").mkdir()
    launcher = checkout / "launch" / "far.sh"
    launcher.write_text("#!/bin/sh\n[ $1 = --dry_run ] || { echo never; exit 3; }\n")
    launcher.chmod(0o755)

    def run_command(text, *before, limit=60.0):
        command = Command("page.md", 1, text, before)
        return run_all.run(command, checkout, network=False, limit=limit)

    return run_command


@pytest.mark.parametrize(
    ("case", "outcome", "why"),
    [
        ("short", RAN, ""),
        ("logs", STOPPED, ""),
        ("saves", STOPPED, ""),
        ("loses", FAILED, "status 1"),
        ("fetch", EXPECTED, "published weights need a network"),
        ("noisy", FAILED, "status 2: x / error: https://host/x"),
        ("soft", FAILED, "status 1"),
        ("wrong", FAILED, "status 2: error: there is no such file"),
        ("coco", FAILED, "status 1: error: COCO"),
        ("network", RAN, ""),
        ("copy", RAN, ""),
    ],
)
def test_what_became_of_a_training(run, case, outcome, why):
    ending = run(f"python -m experiments.main --workdir=runs/{case}")
    assert ending.outcome == outcome, ending
    assert ending.why.startswith(why)


def test_a_command_that_does_not_end(run):
    ending = run("python -m experiments.main --workdir=runs/hangs", limit=3.0)
    assert ending.outcome == FAILED
    assert "not ended" in ending.why


def test_settings_of_earlier_lines_are_in_force(run, tmp_path):
    text = "python -m experiments.main --workdir=$where/short > said"
    assert run(text, "where=runs").outcome == RAN
    assert (tmp_path / "checkout" / "said").exists()


def test_what_is_not_run_says_why(run):
    text = "launch/far.sh --gpus=2 python -m experiments.main …"
    assert run(text).outcome == DRY
    ending = run("bifpn eval --weights=FILE --images=DIR")
    assert ending[:2] == (SKIPPED, "needs the reference data ¹")
    assert run('pip install -e ".[peers]"')[:2] == (SKIPPED, "would install gigabytes")
    assert run("python tests/documentation/run_all.py")[:2] == (SKIPPED, "this script")


def test_every_command_comes_once_and_in_order(monkeypatch):
    pages = {"README.md": "```bash\na\nb\na\n```\n", "docs/x.md": "```bash\nc\nb\n```\n"}
    monkeypatch.setattr(run_all, "page_names", lambda: [*pages, "CHANGELOG.md"])
    monkeypatch.setattr(run_all, "read_page", pages.get)
    found = [(command.page, command.line, command.text) for command in run_all.commands()]
    assert found == [("README.md", 2, "a"), ("README.md", 3, "b"), ("docs/x.md", 2, "c")]


def test_the_count_and_the_status(monkeypatch, capsys, tmp_path):
    endings = {"good": run_all.Ending(RAN), "bad": run_all.Ending(FAILED, "status 1", 2.0)}
    ran = []
    monkeypatch.setattr(run_all, "prepare", lambda folder: folder)
    monkeypatch.setattr(run_all, "commands", lambda: [Command("p", 1, name) for name in endings])
    monkeypatch.setattr(run_all, "run", lambda c, *_, **__: ran.append(c.text) or endings[c.text])
    monkeypatch.setattr(sys, "argv", ["run_all", f"--folder={tmp_path}"])
    assert run_all.main() == 1
    assert capsys.readouterr().out == (
        "ran, 0 s: p:1 good\nFAILED, 2 s (status 1): p:1 bad\n1 ran, 1 FAILED\n"
    )
    endings["bad"] = run_all.Ending(RAN)
    assert run_all.main() == 0
    assert ran == ["good", "bad", "bad"]
    assert json.loads((tmp_path / "endings.json").read_text())["bad"][0] == RAN
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--again", "--only=good"])
    assert run_all.main() == 0
    assert ran == ["good", "bad", "bad", "good"]


def test_the_pictures_are_a_dataset(tmp_path):
    from bifpn_jax.data.sources.coco_folder import CocoJson

    reader_folder.draw_photos(tmp_path, "val", 3)
    source = CocoJson(str(tmp_path / "val"), str(tmp_path / "val.json"))
    assert len(source) == 3
    assert source.label_map.names == ("circle", "rectangle", "triangle", "cross")
    assert (tmp_path / "val.jpg").exists()
