"""README, the changelog and docs/: their Python runs as printed, and what they name is there."""

import importlib.util
import re
import shutil
from pathlib import Path

import pytest
from command_lines import PROJECT, experiment
from pages import LANGUAGES, ROOT, blocks, page_names, read_page, spans

import bifpn_jax
from bifpn_jax.recipe import base
from bifpn_jax.recipe.fields import flat_fields
from bifpn_jax.trained import load_detector

PAGES = page_names()
SPANS = [span for page in PAGES for span in spans(page, read_page(page))]
PYTHON = [page for page in PAGES if "```python" in read_page(page)]
FIELDS = dict(flat_fields(base.get_config("d0"), groups=True))

_FOLDERS = ("bifpn_jax", "configs", "constraints", "docs", "experiments", "launch", "tests")


def files(*patterns: str) -> list[Path]:
    return [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_has_a_language_that_is_tested(page):
    for block in blocks(page, read_page(page)):
        assert block.language in LANGUAGES, (
            f"{block}: write one of {', '.join(LANGUAGES)} behind the fence, it is "
            f"{block.language!r}; bash and Python are run"
        )


@pytest.mark.parametrize("page", PYTHON)
def test_python_runs_as_printed(page, tmp_path, monkeypatch, request):
    python = [block for block in blocks(page, read_page(page)) if block.language == "python"]
    if any("runs/quickstart" in block.text for block in python):
        workdir = request.getfixturevalue("quickstart_workdir")
        shutil.copytree(workdir, tmp_path / "runs" / "quickstart")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in python:
        exec(compile("\n" * (block.line - 1) + block.text, page, "exec"), names)


def test_the_workdir_that_python_finds_can_be_read(quickstart_workdir):
    detector = load_detector(quickstart_workdir)
    assert detector.config["name"] == "quickstart"
    assert detector.class_names[0] == "circle"


def test_a_call_in_running_text_works():
    calls = [span for span in SPANS if re.fullmatch(r"create_model\(.+\)", span.text)]
    assert calls
    for call in calls:
        eval(call.text, {"create_model": bifpn_jax.create_model})


def test_functions_in_running_text_are_public():
    named = {
        match[1] for span in SPANS for match in re.finditer(r"bifpn_jax\.([a-z]\w*)", span.text)
    }
    for name in named:
        module = importlib.util.find_spec(f"bifpn_jax.{name}")
        assert module or name in bifpn_jax.__all__, name


def test_paths_in_running_text_are_there():
    for span in SPANS:
        word = span.text.partition(":")[0] if ".py:" in span.text else span.text
        if re.fullmatch(rf"({'|'.join(_FOLDERS)})/[\w./-]*", word):
            assert (ROOT / word).exists(), span
        elif re.fullmatch(r"\w+/\w+\.py", word):
            assert files(word, f"bifpn_jax/{word}"), span
        elif found := re.fullmatch(r"experiments\.(\w+)", word):
            assert (ROOT / "experiments" / f"{found[1]}.py").is_file(), span


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_of_the_project(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", read_page(page)):
        if not re.match(r"https?://", target):
            path = (ROOT / page).parent / target.partition("#")[0]
            assert path.resolve().is_relative_to(ROOT), target
            assert path.exists(), target


def test_config_fields_in_running_text_exist_and_take_their_values():
    found = [
        (span, *match)
        for span in SPANS
        for match in re.findall(r"^(?:--)?config\.([a-z][\w.]*)(?:=(\S+))?$", span.text)
        if match[0] not in ("json", "py")
    ]
    assert len(found) > 20
    for span, field, value in found:
        assert field in FIELDS, span
        if value and not value.isupper():
            experiment("main", ["--config=configs/d0.py", f"--config.{field}={value}"], ROOT)


def test_extras_in_running_text_are_extras_of_the_project():
    named = {span.text for span in SPANS if re.fullmatch(r"\[\w+\]", span.text)}
    assert "[peers]" in named
    assert {name.strip("[]") for name in named} <= set(PROJECT["optional-dependencies"])


def test_configs_with_words_after_the_colon_in_running_text():
    given = "--config.data.train_images=a --config.data.train_annotations=b"
    source = "--config.data.source=coco_json"
    words = [source, *given.split(), *given.replace("train", "eval").split()]
    found = {span.text.removeprefix("--config=") for span in SPANS}
    found = [text for text in found if re.fullmatch(r"configs/[\w/]+\.py:\S+", text)]
    assert len(found) >= 4
    for text in found:
        experiment("main", [f"--config={text}", *words], ROOT)


def test_flags_in_running_text_are_flags_of_a_command():
    known = {"config", "help", "hypothesis"}
    for file in files("bifpn_jax/**/*.py", "experiments/**/*.py", "tests/conftest.py"):
        text = file.read_text()
        known |= set(re.findall(r'(?:DEFINE_\w+|addoption)\(\s*"(?:--)?(\w+)"', text))
    for file in files("launch/*.sh", "tests/documentation/run_all.py"):
        known |= set(re.findall(r"[\"| ]--(\w+)(?:=\S*)?[)\"| ]", file.read_text()))
    for span in SPANS:
        for flag in re.findall(r"(?:^|\s)--(\w+)(?![\w.-])", span.text):
            assert {flag, flag.removeprefix("no")} & known, span
