"""JSON that somebody or some program has got wrong, and how that must be answered."""

import copy
import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from bifpn_jax.errors import UserError

# JSON that goes beyond what Python's parser can take.
TOO_MUCH = {"too many brackets": b"[" * 100_000, "too many digits": b"[" + b"9" * 5000 + b"]"}

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 100)
    | st.just(10**400)  # no float is as large
    | st.sampled_from([2**31, 2**63, -(2**63), 10**30, 1e39, 1e308, -1e308])
    | st.sampled_from([float("nan"), float("inf"), float("-inf"), -0.0, 0.5, 1e-320])
    | st.sampled_from(["", "1", "a\nb", "\0", "\ud800", ".", "..", "/", "a.png"])
)
nested = (
    st.lists(scalars, max_size=5)
    | st.lists(st.lists(scalars, max_size=2), max_size=5)
    | st.dictionaries(st.sampled_from(["id", "bbox", "x"]), scalars, max_size=3)
)
junk = scalars | nested


def _places(content: Any) -> list[tuple[Any, Any]]:
    """All pairs of a list or an object in some JSON and an index or a key of it."""
    if not isinstance(content, dict | list):
        return []
    keys = list(content) if isinstance(content, dict) else range(len(content))
    return [(content, key) for key in keys] + [
        place for key in keys for place in _places(content[key])
    ]


@st.composite
def damaged(draw, content: Any) -> Any:
    """A copy of some JSON in which one value is replaced, removed or there twice."""
    content = copy.deepcopy(content)
    holder, key = draw(st.sampled_from(_places(content)))
    kind = draw(st.sampled_from(["replace", "replace", "replace", "remove", "repeat"]))
    if kind == "remove":
        del holder[key]
    elif kind == "repeat" and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    else:
        holder[key] = draw(junk)
    return content


@st.composite
def spoiled_texts(draw, content: Any) -> bytes:
    """The text of some JSON, cut off, with a part taken out, or with bytes that do not belong."""
    text = json.dumps(content).encode()
    start, end = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    return text[:start] + draw(st.just(b"") | st.binary(max_size=6)) + text[end:]


def answer(action: Callable[[], Any], *names: str) -> Any | None:
    """What the action returns; None if it refuses, in one line that contains the names."""
    try:
        return action()
    except UserError as error:
        message = str(error)
        assert message
        assert len(message.splitlines()) == 1, message
        for name in names:
            assert name in message, message
        return None
