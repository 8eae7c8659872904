"""A trained model, ready to predict: from what ``--weights`` names to model, variables, classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict

from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.errors import UserError
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.train.checkpoint_reader import FOLDER, first_line, read_weights, restore_meta
from bifpn_jax.weights.tf_checkpoint import is_tf_checkpoint
from experiments import from_config
from experiments.config_fields import with_added_fields
from experiments.image_size import parse_image_hw
from experiments.weight_file_model import read_weight_file


class TrainedModel(NamedTuple):
    """A model with its weights and all that predicting with it takes.

    Attributes:
        model: the network.
        variables: {"params", "batch_stats"}, numpy arrays.
        label_map: its classes.
        config: of the run that trained it.
    """

    model: EfficientDet
    variables: dict[str, Any]
    label_map: LabelMap
    config: ConfigDict


def load_trained(
    weights: str | Path,
    name: str = "",
    *,
    ema: bool = True,
    step: int | str | None = None,
    class_names: Sequence[str] = (),
) -> TrainedModel:
    """Reads a trained model.

    Args:
        weights: the workdir of a training run, a file of weights, or the name of published ones.
        name: the model that is expected to be there, "d0"; "" takes what is there.
        ema: whether to take the averaged weights of a run, or the raw ones.
        step: of a run, a step, "latest" or "best"; None for the best if there is one, else the
            latest.
        class_names: of a file that does not hold them, in the order of its outputs.

    Raises:
        UserError: nothing that can be read, no such step, or another model than expected.
    """
    path = Path(weights).expanduser()
    if path.is_dir() and not is_tf_checkpoint(path):
        trained = _read_workdir(path, ema, step)
    else:
        if step is not None:
            raise UserError(f"{path} is a file with one set of weights; leave --step out.")
        trained = TrainedModel(*read_weight_file(weights, name, tuple(class_names)))
    names = (trained.config.model.name, trained.config.name)
    if name and name not in names:
        raise UserError(
            f"{path} holds a {names[0]}, not a {name}: use --model={names[0]}, or leave it out."
        )
    return trained


def _read_workdir(path: Path, ema: bool, step: int | str | None) -> TrainedModel:
    if not (path / FOLDER).is_dir():
        above = next((p for p in path.absolute().parents if (p / FOLDER).is_dir()), None)
        hint = f"{above} is one" if above else f"name a folder with {FOLDER}/ in it"
        raise UserError(f"{path} is not the workdir of a training run; {hint}.")
    meta = restore_meta(path, step)
    try:
        config = with_added_fields(meta["config"])
        label_map = LabelMap.from_json(meta["label_map"])
        model = from_config.model(config, label_map)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: its checkpoint does not say which model and classes it is of "
            f"({first_line(error)}); it is damaged or not from this program, use another one."
        ) from error
    return TrainedModel(model, read_weights(path, step, ema=ema), label_map, config)


def define_flags() -> None:
    """Defines the flags that say which weights to use, and how to use them."""
    flags.DEFINE_string(
        "model", "", "Name of the model, d0 … d7x or lite0 …; needed where the weights fit several."
    )
    flags.DEFINE_string(
        "weights",
        None,
        "Workdir of a training run, file of weights (.pth, .safetensors, .tflite, TensorFlow "
        "checkpoint), or a name that experiments.fetch_weights --list knows.",
        required=True,
    )
    flags.DEFINE_list(
        "class_names", None, "Classes of a file that does not name them, in the order of outputs."
    )
    flags.DEFINE_string("step", "", "Its checkpoint: best, latest or a step; best if there is one.")
    flags.DEFINE_bool("ema", True, "Averaged weights; --noema takes the raw ones.")
    flags.DEFINE_enum(
        "nms", None, ("gaussian", "hard"), "Kind of NMS; by default as in the run's config."
    )
    flags.DEFINE_string(
        "image_hw",
        None,
        "Height and width of the network's frame in pixels, 512,640, or one number for a square; "
        "by default the model's own.",
    )


def load_from_flags() -> TrainedModel:
    """Reads the trained model that the command line names, with --nms and --image_hw applied."""
    given = flags.FLAGS
    step = given.step or None
    if step not in (None, "best", "latest"):
        if not step.isdecimal():
            raise UserError(f"--step={step}: give best, latest or the number of a step.")
        step = int(step)
    image_hw = parse_image_hw(given.image_hw, "image_hw") if given.image_hw else None
    trained = load_trained(
        given.weights, given.model, ema=given.ema, step=step, class_names=given.class_names or ()
    )
    if given.nms:
        trained.config.eval.nms_method = given.nms
    if image_hw:
        trained = trained._replace(model=trained.model.clone(image_hw=image_hw))
    return trained
