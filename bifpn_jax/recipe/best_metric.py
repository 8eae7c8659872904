"""Whether evaluations will have the number that the best checkpoint is chosen by."""

from collections.abc import Collection

from ml_collections import ConfigDict

from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.metrics import summary_names
from bifpn_jax.train.state import EVALUATED


def measured_names(config: ConfigDict, own: Collection[str] = ()) -> list[str]:
    """The numbers of an evaluation: COCO's, and those that metrics of one's own return."""
    names = [*summary_names(config.eval.max_detections), *own]
    return names + [f"raw_{name}" for name in names if len(EVALUATED[config.eval.weights]) > 1]


def check_best_metric(config: ConfigDict, own: Collection[str] | None = None) -> None:
    """Refuse a `checkpoint.best_metric` that evaluations do not have.

    Args:
        config: of the run.
        own: the names that the metrics of one's own return; None while nobody knows them, and then
            where there are such metrics any name may be one.

    Raises:
        UserError: there is no such number; it says which there are.
    """
    best, names = config.checkpoint.best_metric, measured_names(config, own or ())
    if best not in names and (own is not None or not config.eval.metrics):
        raise UserError(
            f"config.checkpoint.best_metric={best!r} does not work: use {' or '.join(names)}."
        )
