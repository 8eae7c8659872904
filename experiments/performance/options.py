"""The options of the benchmark."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bifpn_jax.errors import UserError
from bifpn_jax.models.scaling import MODELS


class Case(NamedTuple):
    """A model and a batch size."""

    model: str
    batch_size: int


class Options(NamedTuple):
    """Options of all parts.

    Attributes:
        rounds: how often everything is timed.
        forward: models and batch sizes of the forward pass.
        train: models and batch sizes of the training step.
        memory: models and batch sizes of the training step whose memory is measured.
        images: folder of real images, or None for drawn ones.
        annotations: COCO file of these images, or None.
        peers: whether to run other code bases that are installed.
        dtype: type of the computation in forward pass and training step: float32 or bfloat16.
        remat: parts of the network to recompute in the memory measurement, as in configs.
    """

    rounds: int
    forward: tuple[Case, ...]
    train: tuple[Case, ...]
    memory: tuple[Case, ...]
    images: Path | None
    annotations: Path | None
    peers: bool
    dtype: str = "float32"
    remat: str = ""


def parse_cases(flag: str, words: Sequence[str]) -> tuple[Case, ...]:
    """Parse ("d0:1", "lite0:8") to cases.

    Raises:
        UserError: a word is not MODEL:BATCH, or there is no such model.
    """
    cases = []
    for word in words:
        name, _, size = word.partition(":")
        if name not in MODELS:
            raise UserError(f"--{flag}={word}: no model {name!r}; there are {', '.join(MODELS)}.")
        if not size.isdecimal() or int(size) < 1:
            raise UserError(f"--{flag}={word}: write MODEL:BATCH, such as {name}:1.")
        cases.append(Case(name, int(size)))
    return tuple(cases)
