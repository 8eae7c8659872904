"""Messages about failures in user code."""

import traceback


def failure(error: Exception) -> str:
    """Return an error with its location, in one line: "KeyError: 'x' (mine.py, line 3)"."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{said} ({place.filename}, line {place.lineno})"
