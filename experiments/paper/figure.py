"""What a figure is before it is written."""

from typing import Any, NamedTuple


class Drawing(NamedTuple):
    """A figure, or why there is none.

    Attributes:
        title: "Figure 1: AP over multiply-adds".
        figure: matplotlib's; None where nothing that it would show was run.
        caption: what it shows, or what would have to be run.
    """

    title: str
    figure: Any | None
    caption: str
