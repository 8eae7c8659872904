"""Downloads published weights by name and prints their paths.

    bifpn weights tf_efficientdet_d0

prints the path of the file, for --weights=PATH or --config.init_from=PATH. --list prints all
published weights. Files are kept in ~/.cache/bifpn_jax/weights, or in the folder that the
environment variable BIFPN_JAX_WEIGHTS names; existing files are only verified.
"""

import math
import signal
import sys
from collections.abc import Iterable

from absl import flags

from bifpn_jax.errors import UserError
from bifpn_jax.runs.interruption import Interrupted
from bifpn_jax.weights.published.catalog import published, weights_catalog
from bifpn_jax.weights.published.download import fetch
from bifpn_jax.weights.published.published_file import PublishedWeights

_HEADINGS = ("name", "model", "file", "score", "measured as", "SHA-256", "licence")


def table(entries: Iterable[PublishedWeights]) -> str:
    """Format the catalog for a terminal, a line per file."""
    rows = [_HEADINGS]
    for entry in entries:
        score = "-" if math.isnan(entry.score) else f"{entry.score:.3f}"
        known = entry.sha256[:8] or "unknown"
        file = entry.file.removeprefix(entry.name)
        rows.append((entry.name, entry.model, file, score, entry.metric, known, entry.licence))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(lines)


def fetch_all(names: list[str]) -> None:
    """Download the named weights and print their paths, after checking that all names are known.

    Raises:
        Interrupted: by Ctrl-C; partial downloads are kept.
    """
    if not names:
        raise UserError(
            "name what to fetch, e.g. bifpn weights tf_efficientdet_d0; "
            "--list prints what there is."
        )
    for entry in [published(name) for name in names]:
        try:
            print(fetch(entry), flush=True)
        except KeyboardInterrupt:
            print("stopped; the same command continues from here.", file=sys.stderr)
            raise Interrupted(signal.SIGINT) from None


ARGUMENTS = "NAME"


def define_flags() -> None:
    """Define the flags of this command."""
    flags.DEFINE_bool("list", False, "List the published files instead of downloading any.")


def main(names: list[str]) -> None:
    """List or download weights."""
    if not flags.FLAGS.list:
        return fetch_all(names)
    print(table(weights_catalog().values()))
