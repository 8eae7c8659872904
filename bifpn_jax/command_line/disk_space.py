"""Recognises the error of a full disk, whichever library was writing."""

import errno
import os
import re

_CODES = (errno.ENOSPC, errno.EDQUOT)
_TEXTS = tuple(map(os.strerror, _CODES))


def full_disk(error: BaseException) -> str | None:
    """Return the file that could not be written because its disk or a quota is full.

    All errors that led to this one are searched; some libraries mention it only in their message.

    Returns:
        Its path as far as known, and None for any other error.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _CODES:
            return str(seen.filename or "output")
        if any(text in str(seen) for text in _TEXTS):
            named = re.search(r'local file "([^"]+)"', str(seen))
            return named[1] if named else "output"
        seen = seen.__cause__ or seen.__context__
    return None
