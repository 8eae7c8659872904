"""Compares the outputs of models in effdet (PyTorch) and here, computed with the same weights.

    pip install -e ".[peers]"
    python -m experiments.compare_effdet
    python -m experiments.compare_effdet tf_efficientdet_d1 tf_efficientdet_d0:pan_fa

Each argument is the name of a model in effdet, optionally followed by a colon and one of its
feature networks; the default is D0 with all of them and some more models. Weights are random, with
a sensible scale, so nothing is downloaded; they are loaded here by `load_weights`, like published
ones. The deviation is the largest one, in units of the standard deviation of the output.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from bifpn_jax.command_line import command
from bifpn_jax.errors import UserError
from bifpn_jax.models.cost import num_parameters
from bifpn_jax.models.detector import EfficientDet, create_model
from bifpn_jax.weights import load_weights
from bifpn_jax.weights.published.catalog import find_published
from experiments.performance import effdet_peer

# effdet's names of feature networks -> feature_network, fusion.
NETWORKS = {
    "bifpn_sum": ("bifpn", "sum"),
    "bifpn_attn": ("bifpn", "softmax"),
    "bifpn_fa": ("bifpn", "fast"),
    "pan_sum": ("effdet_pan", "sum"),
    "pan_fa": ("effdet_pan", "fast"),
    "qufpn_sum": ("qufpn", "sum"),
    "qufpn_fa": ("qufpn", "fast"),
}
DEFAULT = (
    *(f"tf_efficientdet_d0:{network}" for network in NETWORKS),
    "tf_efficientdet_d1",
    "tf_efficientdet_lite0",
    "efficientdet_d0",
    "efficientdet_d0:pan_fa",
    "efficientdet_q1",
)
# The second is odd and, in one direction, smaller than one cell of the coarsest level.
SIZES = ((128, 192), (97, 131))


class Comparison(NamedTuple):
    """The result for one model.

    Attributes:
        parameters: numbers of trainable parameters, effdet's and ours.
        class_deviation: largest over both sizes, in standard deviations of effdet's output.
        box_deviation: the same for the box codes.
    """

    parameters: tuple[int, int]
    class_deviation: float
    box_deviation: float


def our_model(name: str, network: str = "", *, num_classes: int = 90) -> EfficientDet:
    """Return our version of effdet's model `name`, with one of its feature networks."""
    published = find_published(name)
    if published is None or published.kind != "effdet":
        raise UserError(
            f"{name} is not an effdet model that can be built here; see fetch_weights --list."
        )
    settings = dict(published.settings)
    if network:
        if network not in NETWORKS:
            raise UserError(f"{network} is not a feature network of effdet: {', '.join(NETWORKS)}.")
        settings["feature_network"], settings["fusion"] = NETWORKS[network]
    return create_model(published.model, num_classes=num_classes, **settings)


def compare(name: str, network: str = "", *, num_classes: int = 7) -> Comparison:
    """Compute one model in both code bases."""
    model = our_model(name, network, num_classes=num_classes)
    theirs = _effdet_model(name, network, SIZES[0], num_classes)
    state = _random_state(theirs.state_dict())
    arrays = {key: value.numpy() for key, value in state.items()}
    variables = load_weights(arrays, model, report=None)
    forward = jax.jit(model.apply)
    deviations = []
    for hw in SIZES:
        resized = _effdet_model(name, network, hw, num_classes)
        resized.load_state_dict(state)
        images = np.random.RandomState(7).standard_normal((1, *hw, 3)).astype(np.float32)
        wanted = _effdet_outputs(resized, images, num_classes)
        found = forward(variables, images)
        deviations.append(
            [float(np.abs(f - w).max() / w.std()) for f, w in zip(found, wanted, strict=True)]
        )
    count = sum(parameter.numel() for parameter in theirs.parameters())
    worst = np.max(deviations, axis=0)
    return Comparison((count, num_parameters(variables["params"])), *map(float, worst))


def _effdet_model(name: str, network: str, hw: tuple[int, int], num_classes: int) -> Any:
    if why := effdet_peer.missing():
        raise UserError(f"{why}.")
    return effdet_peer.make_model(name, hw, num_classes, network).eval()


def _random_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return values of a sensible scale for every entry of a state dict."""
    import torch

    rng, values = np.random.RandomState(0), {}
    for key, old in state.items():
        leaf, shape = key.rpartition(".")[2], tuple(old.shape)
        if leaf == "num_batches_tracked":
            values[key] = old
            continue
        if leaf == "running_var":
            new = rng.uniform(0.5, 1.5, shape)
        elif leaf in ("running_mean", "bias"):
            new = 0.1 * rng.standard_normal(shape)
        elif leaf == "edge_weights":
            new = rng.uniform(-0.3, 1.5, shape)
        elif len(shape) == 1:
            new = rng.uniform(0.8, 1.2, shape)
        else:
            new = rng.standard_normal(shape) * np.sqrt(1.5 / np.prod(shape[1:]))
        values[key] = torch.tensor(np.asarray(new, np.float32))
    return values


def _effdet_outputs(model: Any, images: np.ndarray, num_classes: int) -> list[np.ndarray]:
    import torch

    with torch.no_grad():
        maps = model(torch.tensor(images.transpose(0, 3, 1, 2)))
    return [
        np.concatenate([m.permute(0, 2, 3, 1).reshape(1, -1, values).numpy() for m in levels], 1)
        for levels, values in zip(maps, (num_classes, 4), strict=True)
    ]


def main(words: Sequence[str]) -> int:
    """Run the command; the exit status is 1 if a model differs."""
    pairs = [word.partition(":")[::2] for word in words or DEFAULT]
    for name, network in pairs:
        our_model(name, network)
    failed = []
    print(f"{'model':32} {'parameters':>11}  {'class logits':>12} {'box codes':>10}")
    for name, network in pairs:
        word = f"{name}:{network}" if network else name
        found = compare(name, network, num_classes=flags.FLAGS.classes)
        same = found.parameters[0] == found.parameters[1]
        worst = max(found.class_deviation, found.box_deviation)
        if not same or not worst < flags.FLAGS.tolerance:
            failed.append(word)
        count = f"{found.parameters[0]:,}" if same else "{:,} != {:,}".format(*found.parameters)
        print(
            f"{word:32} {count:>11}  {found.class_deviation:12.1e} {found.box_deviation:10.1e}",
            flush=True,
        )
    if failed:
        print(f"differ by more than {flags.FLAGS.tolerance:g}: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    flags.DEFINE_float("tolerance", 1e-4, "Largest deviation that is none.", lower_bound=0.0)
    flags.DEFINE_integer("classes", 90, "Number of classes.", lower_bound=1)
    command.run(main, arguments="MODEL")
