"""The one exception whose message is meant for the person at the keyboard."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# What is quoted is somebody's code or text, and stays as it is.
_NAMES = re.compile(
    r"`[^`]*`"
    r'|"[^"]*"'
    r"|(?<![-./\w])(?:(?P<field>config(?:\.[a-z]\w*)+)|(?P<argument>[a-z]\w*)(?==))"
)


class UserError(Exception):
    """Something the user can put right.

    The message is one complete line: what is wrong, where (file, record, field) and the cure. It
    names arguments of functions, ``bad_boxes=skip``; what reads a config names its fields,
    ``config.data.bad_boxes=skip``; the commands put both as flags, print the line without a
    traceback and exit with status 2.

    Attributes:
        what: the message without its cure, for a caller that knows a better one.
        cure: what to do about it, "" where the message is one piece.
    """

    def __init__(self, what: object = "", cure: str = "") -> None:
        """Takes the whole message, or its two parts: "WHAT; CURE"."""
        super().__init__(f"{what}; {cure}" if cure else what)
        self.what, self.cure = str(what), cure

    def rename(self, names: Mapping[str, str]) -> None:
        """Puts other names into the message, as the function `rename` does."""
        self.args = (rename(str(self), names),)
        self.what, self.cure = rename(self.what, names), rename(self.cure, names)


def rename(message: str, names: Mapping[str, str]) -> str:
    """A message with other names for arguments, ``name=…``, and fields, ``config.group.name``.

    Args:
        message: what is in quotes or backquotes in it stays as it is.
        names: the new names by the old ones.
    """

    def new(found: re.Match[str]) -> str:
        name = found["field"] or found["argument"]
        return names.get(name, found[0]) if name else found[0]

    return _NAMES.sub(new, message)


@contextmanager
def renaming(names: Mapping[str, str]) -> Iterator[None]:
    """Context whose UserErrors name arguments as its caller calls them, see `rename`."""
    try:
        yield
    except UserError as error:
        error.rename(names)
        raise
