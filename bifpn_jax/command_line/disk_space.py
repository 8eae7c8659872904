"""What a full disk looks like from here, whichever library was writing."""

import errno
import os
import re

_CODES = (errno.ENOSPC, errno.EDQUOT)
_TEXTS = tuple(map(os.strerror, _CODES))


def full_disk(error: BaseException) -> str | None:
    """The file that could not be written because its disk is full, or a quota is used up.

    Looked for in all errors that led to this one; some libraries say it in their message only.

    Returns:
        Its path as far as it is known, and None where the error is another one.
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
