"""A custom feature network in a file: ``--config.model.feature_network=my_network.txt``."""

from pathlib import Path

from ml_collections import ConfigDict

from bifpn_jax.errors import UserError
from bifpn_jax.models.graphs import format_graph, parse_graph
from bifpn_jax.models.networks import NETWORKS


def read_network(value: str) -> str:
    """Return the nodes in the file that `value` names, or `value` itself if it is not a file name.

    Raises:
        UserError: the file does not exist, or contains anything but nodes.
    """
    if value in NETWORKS or not ("/" in value or Path(value).suffix == ".txt"):
        return value
    try:
        text = Path(value).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UserError(
            f"feature network {value}: cannot read this file ({reason}); name one with nodes, such "
            f"as 6:3,4 5:2,5, or a network: {', '.join(NETWORKS)}."
        ) from error
    try:
        return format_graph(parse_graph(text))
    except UserError as error:
        raise UserError(f"{value}: {error}") from error


def inline_network_file(config: ConfigDict) -> None:
    """Replace the name of a file by the nodes in it, so that a run is self-contained."""
    config.model.feature_network = read_network(config.model.feature_network)
