"""The one exception whose message is meant for the person at the keyboard."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# Quoted text is somebody's code or text, and is not changed.
_NAMES = re.compile(
    r"`[^`]*`"
    r'|"[^"]*"'
    r"|(?<![-./\w])(?:(?P<field>config(?:\.[a-z]\w*)+)|(?P<argument>[a-z]\w*)(?==))"
)


class UserError(Exception):
    """An error that the user can fix.

    The message is one complete line: what is wrong, where (file, record, field) and how to fix it.
    It names arguments of functions, ``bad_boxes=skip``; code that reads a config names its fields,
    ``config.data.bad_boxes=skip``. Commands turn both into flags, print the line without a
    traceback and exit with status 2.

    Attributes:
        what: the message without the fix, for callers that know a better one.
        cure: how to fix it, "" if the message was given as a whole.
    """

    def __init__(self, what: object = "", cure: str = "") -> None:
        """Take the whole message, or its two parts, "WHAT; CURE"."""
        super().__init__(f"{what}; {cure}" if cure else what)
        self.what, self.cure = str(what), cure

    def rename(self, names: Mapping[str, str]) -> None:
        """Replace names in the message, as the function `rename` does."""
        self.args = (rename(str(self), names),)
        self.what, self.cure = rename(self.what, names), rename(self.cure, names)


def rename(message: str, names: Mapping[str, str]) -> str:
    """Replace names of arguments, ``name=…``, and fields, ``config.group.name``, in a message.

    Args:
        message: the message; text in quotes or backquotes is not changed.
        names: the new names by the old ones.
    """

    def new(found: re.Match[str]) -> str:
        name = found["field"] or found["argument"]
        return names.get(name, found[0]) if name else found[0]

    return _NAMES.sub(new, message)


@contextmanager
def renaming(names: Mapping[str, str]) -> Iterator[None]:
    """Context in which UserErrors use the caller's names for arguments, see `rename`."""
    try:
        yield
    except UserError as error:
        error.rename(names)
        raise
