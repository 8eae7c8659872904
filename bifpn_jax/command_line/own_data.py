"""The data named by a trained model's config, for commands without a config to change."""

from ml_collections import ConfigDict

from bifpn_jax.command_line.download_consent import ask_before_download
from bifpn_jax.data.records import Source
from bifpn_jax.errors import UserError
from bifpn_jax.recipe import building


def own_eval_source(config: ConfigDict, num_classes: int, *, agreed: bool, instead: str) -> Source:
    """Open the evaluation data of the run that trained a model.

    Args:
        config: config of that run.
        num_classes: number of classes of the model.
        agreed: whether COCO 2017 may be downloaded without asking.
        instead: what to do if the data is not available, to end a sentence.

    Raises:
        UserError: the data is not available.
    """
    ask_before_download(config.data, agreed, instead)
    try:
        return building.source(config, "eval", num_classes)
    except UserError as error:
        raise UserError(
            f"the evaluation data of the model's own config cannot be had: {error.what}", instead
        ) from error
