"""The code blocks and the commands of README, the changelog and the pages in docs/."""

import ast
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("bash", "python", "text")

# What a span of code in running text or in a table begins with if it is a command. A script of
# launch/ without any option is the mention of a file.
_COMMAND = re.compile(r"(\w+=\S+ )*(python |bifpn \w+ \S|pytest |pip |launch/\w+\.sh \S)")
_FENCE = re.compile(r"^( *)```(.*)$")


class Block(NamedTuple):
    """A fenced block: its page, the line of its first line, its language and its lines."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file_name(self) -> str:
        """The file that a block shows, by a comment in its first line; "" for none."""
        found = re.match(r"# (\S+\.\w+)\n", self.text)
        return found[1] if found and self.language in ("text", "python") else ""


class Span(NamedTuple):
    """A span of code in running text or in a table, on one line."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {self.text}"


class Command(NamedTuple):
    """A command line.

    Attributes:
        page: the file that it stands in.
        line: where it begins.
        text: as printed, continued lines joined, without a comment at its end.
        before: earlier lines of the same block that this one needs: variables, an environment.
    """

    page: str
    line: int
    text: str
    before: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {self.text}"


def page_names() -> list[str]:
    """Paths of all pages from the root of the repository."""
    files = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [file.relative_to(ROOT).as_posix() for file in files]


def read_page(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, text: str) -> list[Block]:
    """The fenced blocks of a page, whatever they are called.

    Raises:
        ValueError: a fence is not closed, or it would be overlooked here.
    """
    found, start, language, lines = [], 0, "", []
    for number, line in enumerate(text.splitlines(), start=1):
        fence = _FENCE.match(line)
        if (fence and fence[1]) or line.lstrip().startswith("~~~"):
            raise ValueError(f"{page}:{number}: begin a fence in column 1, with ``` and no ~~~")
        if fence and not start:
            start, language, lines = number + 1, fence[2].strip(), []
        elif fence:
            found.append(Block(page, start, language, "".join(f"{line}\n" for line in lines)))
            start = 0
        elif start:
            lines.append(line)
    if start:
        raise ValueError(f"{page}:{start - 1}: this fence is not closed")
    return found


def spans(page: str, text: str) -> list[Span]:
    """The spans of code outside of fenced blocks; one that is broken over lines comes in one."""
    inside, paragraphs = False, [(1, "")]
    for number, line in enumerate(text.splitlines(), start=1):
        if _FENCE.match(line):
            inside = not inside
        elif inside or not line.strip() or line.lstrip().startswith("|"):
            # A row of a table is a paragraph of its own.
            paragraphs += [(number, "" if inside else line), (number + 1, "")]
        else:
            first, before = paragraphs[-1]
            paragraphs[-1] = (first, f"{before}\n{line}") if before else (number, line)
    found = []
    for first, paragraph in paragraphs:
        for match in re.finditer(r"(`+)(.+?)\1", paragraph, re.DOTALL):
            line = first + paragraph.count("\n", 0, match.start())
            found.append(Span(page, line, " ".join(match[2].split())))
    return found


def block_commands(block: Block) -> Iterator[Command]:
    """The commands of a bash block in order."""
    before: tuple[str, ...] = ()
    number, text, start = block.line, "", 0
    for line in block.text.splitlines():
        start = start if text else number
        number += 1
        text += _without_comment(line)
        if text.endswith("\\"):
            text = f"{text[:-1].rstrip()} "
            continue
        text = " ".join(text.split()) if "'" not in text and '"' not in text else text.strip()
        if text and not _is_setting(text):
            yield Command(block.page, start, text, before)
        if _is_setting(text) or re.search(r"(^|&& )\. ", text):
            before = (*before, text)
        text = ""


def page_commands(page: str, text: str) -> list[Command]:
    """All commands of a page, of its bash blocks and of its text, in their order."""
    found = [
        command
        for block in blocks(page, text)
        if block.language == "bash"
        for command in block_commands(block)
    ]
    found += [Command(*span) for span in spans(page, text) if _COMMAND.match(f"{span.text} ")]
    return sorted(found, key=lambda command: command.line)


def docstring_commands(path: Path) -> list[Command]:
    """The commands in the docstring of a Python file: lines of their own, and spans of code."""
    name = path.relative_to(ROOT).as_posix()
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    lines = [
        line if _COMMAND.match(line.strip()) or before.endswith("\\") else ""
        for before, line in zip(["", *text.splitlines()], text.splitlines(), strict=False)
    ]
    block = Block(name, 1, "bash", "".join(f"{line}\n" for line in lines))
    prose = "\n".join("" if kept else line for line, kept in zip(text.splitlines(), lines))
    found = [span for span in spans(name, prose) if _COMMAND.match(f"{span.text} ")]
    return [*block_commands(block), *(Command(*span) for span in found)]


def words_of(command: Command, folder: Path, stand_ins: Mapping[str, str]) -> list[list[str]]:
    """The words of a command as bash reads them in a folder; parts joined by && come apart.

    Args:
        command: the command.
        folder: where globs are looked up.
        stand_ins: what to put in the place of words of the text such as FILE or N.
    """
    parts = with_stand_ins(command.text, stand_ins).split(" && ")
    settings = [line for line in command.before if _is_setting(line)]
    found = []
    for part in parts:
        script = "\n".join([*settings, f"words=({part})", 'printf "%s\\0" "${words[@]}"'])
        out = subprocess.run(
            ["bash", "-c", script], cwd=folder, check=True, capture_output=True, text=True
        )
        found.append(out.stdout.split("\0")[:-1])
    return found


def with_stand_ins(text: str, stand_ins: Mapping[str, str]) -> str:
    """A command with the words that stand for something replaced, and options in [] taken."""
    text = re.sub(r" \[(--\w+)\]", r" \1", text)
    for name, value in stand_ins.items():
        text = re.sub(rf"(?<![\w$]){re.escape(name)}(?!\w)", value.replace("\\", r"\\"), text)
    return text


def _without_comment(line: str) -> str:
    return re.match(r"(\"[^\"]*\"|'[^']*'|(?<=\S)#|[^#])*", line)[0].rstrip()


def _is_setting(text: str) -> bool:
    return re.fullmatch(r"\w+=(\"[^\"]*\"|\S*)", text) is not None
