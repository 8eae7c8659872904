"""Every command in README, docs/ and docstrings is one that its program takes."""

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import command_lines
import pytest
from command_lines import Meaning
from pages import (
    ROOT,
    Command,
    blocks,
    docstring_commands,
    page_commands,
    page_names,
    read_page,
    words_of,
)
from reader_folder import stand_ins

SOURCES = sorted(
    file
    for place in ("bifpn_jax/commands", "experiments", "configs")
    for file in (ROOT / place).rglob("*.py")
)
DOCSTRINGS = [command for file in SOURCES for command in docstring_commands(file)]

# What the reader has: pictures of his own, and their annotations.
PICTURES = ("photos/one.jpg", "photos/two.jpg", "photos/train/a.jpg", "photos/val/b.jpg")
ANNOTATIONS = ("photos/train.json", "photos/val.json")

# What stands for something in docstrings, beside what `run_all` says about the pages.
IN_DOCSTRINGS = {
    "IMAGE...": "photos/*.jpg",
    "bifpn_jax WORD": "bifpn_jax draw bifpn",
}


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """Makes the folder of a reader: the checkout, his pictures, and files that a page shows."""

    def make(*pages: str) -> Path:
        folder = tmp_path_factory.mktemp("reader")
        for path in ROOT.iterdir():
            if path.name not in ("runs", ".venv"):
                (folder / path.name).symlink_to(path)
        for name in PICTURES + ANNOTATIONS:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        for page in pages:
            for block in blocks(page, read_page(page)):
                if block.file_name:
                    (folder / block.file_name).write_text(block.text)
        return folder

    return make


@pytest.fixture(scope="module")
def understood(reader):
    """For a page its commands with what they mean, or with what is wrong with them; once each."""
    found: dict[str, list[tuple[Command, list[Meaning], str]]] = {}

    def understand(page: str) -> list[tuple[Command, list[Meaning], str]]:
        if page not in found:
            folder = reader(page)
            found[page] = []
            for command in page_commands(page, read_page(page)):
                try:
                    found[page].append((command, list(meanings(command, folder)), ""))
                except (AssertionError, subprocess.CalledProcessError) as error:
                    found[page].append((command, [], str(error) or repr(error)))
        return found[page]

    return understand


def meanings(
    command: Command, folder: Path, more: dict[str, str] | None = None
) -> Iterator[Meaning]:
    """What a command does, part by part, of all kinds of commands that there are."""
    for words in words_of(command, folder, {**stand_ins(folder), **(more or {})}):
        environment = {}
        while re.match(r"[A-Z_]+=", words[0]):
            environment.update([words.pop(0).split("=", 1)])
        if words[:2] == ["taskset", "-c"]:
            words = words[3:]
        yield from meaning(words, folder, environment)


def meaning(words: list[str], folder: Path, environment: dict[str, str]) -> Iterator[Meaning]:
    if words[:3] == ["python", "-m", "bifpn_jax"]:
        words = ["bifpn", *words[3:]]
    program, *rest = words
    if words[:3] == ["python", "-m", "venv"]:
        yield Meaning(makes=(rest[-1],))
    elif program == ".":
        yield Meaning(needs=(rest[0],))
    elif words[:2] == ["python", "-m"] and rest[1] == "experiments.performance.child":
        yield child(rest[2:])
    elif words[:2] == ["python", "-m"] and rest[1].startswith("experiments."):
        yield command_lines.experiment(rest[1].removeprefix("experiments."), rest[2:], folder)
    elif program == "bifpn":
        yield command_lines.experiment(rest[0], rest[1:], folder)
    elif program == "python" and rest[0].endswith(".py"):
        listed = [sys.executable, *rest, "--list"]
        subprocess.run(listed, cwd=folder, check=True, capture_output=True)
        yield Meaning()
    elif program == "pytest":
        yield command_lines.pytest_line(rest, folder)
    elif program == "pip":
        yield command_lines.pip_line(rest, folder)
    elif program in ("launch/quickstart.sh", "launch/test.sh"):
        assert (folder / program).stat().st_mode & 0o100
        yield Meaning(makes=(".venv", "runs/quickstart"))
    elif program.startswith("launch/"):
        dry_run(words, folder, environment)
        yield from meaning(rest[rest.index("python") :], folder, {})
    else:
        raise AssertionError(f"say in {__name__} what kind of command {program} is")


def child(words: list[str]) -> Meaning:
    module = importlib.import_module("experiments.performance.child")
    assert words[0] in module.MEASURES
    return Meaning()


def dry_run(words: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Runs a launcher with --dry_run before its other options."""
    gpus = {"CUDA_VISIBLE_DEVICES": "0,1", "PATH": "/usr/bin:/bin"}
    result = subprocess.run(
        [words[0], "--dry_run", *words[1:]],
        cwd=folder,
        env={**gpus, **environment},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    assert "experiments.main" in result.stdout


def missing(needs: tuple[str, ...], made: set[str], folder: Path) -> list[str]:
    """What is neither made by an earlier command, nor the reader's, nor in the repository."""
    return [
        need
        for need in needs
        if not re.fullmatch(r"[A-Z]+", need)
        and not any(Path(need).is_relative_to(path) for path in made)
        and not (folder / need).exists()
    ]


@pytest.mark.parametrize("page", page_names())
def test_every_command_of_a_page_is_taken(page, understood):
    wrong = [f"{command}: {error}" for command, _, error in understood(page) if error]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", page_names())
def test_what_a_command_reads_an_earlier_one_has_made(page, understood, reader):
    folder, made, wrong = reader(), set(), []
    for command, parts, _ in understood(page):
        for part in parts:
            wrong += [f"{command}: {name}" for name in missing(part.needs, made, folder)]
            made |= set(part.makes)
    assert not wrong, "\n".join(wrong)


def test_one_folder_is_one_run(understood):
    runs: dict[str, tuple[str, Command]] = {}
    for page in page_names():
        for command, parts, _ in understood(page):
            for folder, config in (part.run for part in parts if part.run):
                other_config, other = runs.setdefault(folder, (config, command))
                assert config == other_config, (
                    f"{other} and {command} train differently in {folder}"
                )


@pytest.mark.parametrize("command", DOCSTRINGS, ids=str)
def test_every_command_of_a_docstring_is_taken(command, reader):
    folder = reader(*page_names())
    assert list(meanings(command, folder, IN_DOCSTRINGS))


def test_everything_has_its_place_in_the_readme():
    tree = next(b for b in blocks("README.md", read_page("README.md")) if b.language == "text")
    words = set(re.findall(r"[\w.]+", tree.text))
    assert words >= {path.name for path in ROOT.glob("launch/*.sh")} - {"environment.sh"}
    for path in [*ROOT.glob("bifpn_jax/*"), *ROOT.glob("[!.]*")]:
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists():
            assert path.stem in words, path


def test_every_command_is_in_the_readme_and_has_an_example():
    programs = [file for file in SOURCES if '__name__ == "__main__"' in file.read_text()]
    names = {file.stem for file in programs if file.parent.name == "experiments"}
    tree = next(b for b in blocks("README.md", read_page("README.md")) if b.language == "text")
    listed = re.search(r"experiments/ +(.*?)\n\S", tree.text, re.DOTALL)[1]
    assert set(re.findall(r"\w+", listed)) >= names
    for file in programs:
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        assert any(module in command.text for command in docstring_commands(file)), module
