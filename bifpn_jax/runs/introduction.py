"""The first lines that a run prints: its model, its data, and anything unusual about them."""

from collections.abc import Iterator

from bifpn_jax.data.pipeline import count_crowded_images
from bifpn_jax.evaluation.detection_limit import limit_warning
from bifpn_jax.models.cost import num_parameters
from bifpn_jax.models.detector import make_anchors
from bifpn_jax.recipe.ignored_fields import ignored_fields
from bifpn_jax.runs.run import Run
from bifpn_jax.train import devices


def introduce(run: Run, *remarks: str) -> None:
    """Print what is known before the first step.

    Args:
        run: the run to introduce.
        *remarks: further lines about this run, "" for none.
    """
    for line in _lines(run):
        run.line.write(line)
    for line in filter(None, remarks):
        run.line.write(line)
    if not run.is_complete:
        rows = run.config.train.batch_size // devices.process_count()
        run.line.write(
            f"steps {run.first_step} to {run.length.total_steps}, {rows} images each, on "
            f"{devices.device_count()} device(s); the first step compiles"
        )


def _lines(run: Run) -> Iterator[str]:
    config, model, train, evaluation = run.config, run.model, run.train_data, run.eval_data
    anchors = len(make_anchors(model, model.image_hw))
    yield (
        f"{config.name}: {num_parameters(run.state.params):,} parameters, {anchors:,} anchors, "
        f"{len(train.label_map)} classes, {model.image_hw[0]}x{model.image_hw[1]} px"
    )
    yield f"train: {train.summary()}"
    yield f"eval:  {evaluation.summary()}"
    crowded = count_crowded_images(train, config.data.max_boxes)
    if crowded is not None and crowded[0]:
        yield (
            f"{crowded[0]} images have more than config.data.max_boxes={config.data.max_boxes} "
            f"boxes (up to {crowded[1]}); of those the largest are kept"
        )
    limit = config.eval.max_detections
    if too_few := limit_warning(evaluation, limit, "config.eval.max_detections"):
        yield too_few
    if ignored := ignored_fields(config):
        yield ignored
