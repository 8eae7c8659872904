"""A figure before it is written."""

from typing import Any, NamedTuple


class Drawing(NamedTuple):
    """A figure, or the reason why there is none.

    Attributes:
        title: "Figure 1: AP over multiply-adds".
        figure: the matplotlib figure; None if nothing that it would show was run.
        caption: what it shows, or what would have to be run.
    """

    title: str
    figure: Any | None
    caption: str
