"""The data that a trained model's config names, for commands that have no config to change."""

from ml_collections import ConfigDict

from bifpn_jax.command_line.download_consent import ask_before_download
from bifpn_jax.data.records import Source
from bifpn_jax.errors import UserError
from bifpn_jax.recipe import building


def own_eval_source(config: ConfigDict, num_classes: int, *, agreed: bool, instead: str) -> Source:
    """The evaluation data of the run that trained a model.

    Args:
        config: of that run.
        num_classes: of the model.
        agreed: whether COCO 2017 may be downloaded without asking.
        instead: what to do where it cannot be had, for a sentence to end with.

    Raises:
        UserError: it cannot be had.
    """
    ask_before_download(config.data, agreed, instead)
    try:
        return building.source(config, "eval", num_classes)
    except UserError as error:
        raise UserError(
            f"the evaluation data of the model's own config cannot be had: {error.what}", instead
        ) from error
