"""Checks and normalises the words of a command line before flags are parsed."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from bifpn_jax.command_line.image_size import parse_image_hw
from bifpn_jax.errors import UserError

_SIZE = "config.model.image_hw"
_DASHES = "‐‑‒–—―−"  # what word processors turn hyphens into
# Accepted spellings of true and false.
_BOOLEANS = {"true": "true", "yes": "true", "1": "true"} | {
    "false": "false",
    "no": "false",
    "0": "false",
}


def prepare_words(words: Sequence[str]) -> list[str]:
    """Return the words with ``~`` and a single number for the image size expanded.

    Args:
        words: words of the command line, without the program.

    Raises:
        UserError: a word would be misread; the message says how to write it.
    """
    end = words.index("--") if "--" in words else len(words)
    before = ["", *words][:end]
    for word, previous in zip(words[:end], before, strict=True):
        _check(word, previous)
    return [*map(_written_out, words[:end]), *words[end:]]


def _check(word: str, previous: str) -> None:
    if word[:1] in _DASHES and "=" in word and not Path(word).exists():
        right = f"--{word.lstrip(_DASHES + '-')}"
        raise UserError(f"{word!r} begins with {word[0]!r}, not with hyphens; write {right}.")
    name, equals, value = word.partition("=")
    if name.startswith("-") and equals:
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            raise UserError(
                f"{word}: the quotes have become part of the value; write {name}={value[1:-1]}."
            )
        if value[:1] in ("‘", "’", "“", "”"):
            raise UserError(
                f"{word}: a shell does not take these as quotes; write ' or \" instead."
            )
    if not previous.startswith("-"):
        return
    if previous.endswith(",") and "=" in previous and not word.startswith("-"):
        raise UserError(
            f"{previous} {word}: a list is written without spaces, {previous}{word.lstrip(',')}."
        )
    if word.lower() in _BOOLEANS and _may_be_boolean(previous, word):
        raise UserError(f"{previous} {word}: write {previous}={_BOOLEANS[word.lower()]}.")


def _may_be_boolean(option: str, value: str) -> bool:
    """Whether an option without "=" does not take the next word, although it looks like a value."""
    name = option.lstrip("-")
    if name.startswith("config."):
        return "=" not in option and not value.isdecimal()
    return name in flags.FLAGS and flags.FLAGS[name].boolean


def _written_out(word: str) -> str:
    name, equals, value = word.partition("=")
    if not name.startswith("-") or not equals:
        return word
    if value.startswith("~"):
        return f"{name}={os.path.expanduser(value)}"
    # Two numbers in brackets, and errors, are left to the checks of the config.
    if name.lstrip("-") == _SIZE and re.fullmatch(r"\d+|\d+\s*[x×X,]\s*\d+", value):
        return f"{name}={parse_image_hw(value, _SIZE)}"
    return word
