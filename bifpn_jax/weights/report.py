"""A report on loaded weights, entry by entry."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class LoadReport(NamedTuple):
    """What was loaded, what in the file was unused, what in the model is new, and why.

    Attributes:
        source: the file, or "a state dict".
        label: the kind of file.
        loaded: the model's variables with values from the file, "backbone/stem_conv/kernel".
        initial: {variable left at its initial value: reason}.
        unused: {unused entry of the file: reason}.
        folded: whether the file's batch norms are folded: the model's then have placeholder
            statistics, which are exact in evaluation but no starting point for training.
        differences: settings that differ between the weights' training and the model,
            {"aspect_ratios": (theirs, the model's)}.
    """

    source: str
    label: str
    loaded: tuple[str, ...]
    initial: Mapping[str, str]
    unused: Mapping[str, str]
    folded: bool = False
    differences: Mapping[str, tuple[Any, Any]] = {}

    def __str__(self) -> str:
        """Return a few lines: one for what was loaded, one for every reason."""
        lines = [f"weights: {self.source} ({self.label}): {len(self.loaded)} arrays loaded"]
        for what, entries in (("new in the model", self.initial), ("unused", self.unused)):
            for reason in dict.fromkeys(entries.values()):
                names = [name for name, why in entries.items() if why == reason]
                lines.append(f"  {what}: {_few(names)}: {reason}")
        lines += [
            f"  they were trained with {name}={theirs}, the model has {ours}"
            for name, (theirs, ours) in self.differences.items()
        ]
        return "\n".join(lines)


def _few(names: list[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
