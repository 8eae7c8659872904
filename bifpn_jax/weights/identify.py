"""Finds the released models that weights belong to."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from bifpn_jax.models.backbones.efficientnet import VARIANTS, Classifier, block_table
from bifpn_jax.models.detector import EfficientDet, create_model
from bifpn_jax.models.scaling import MODELS
from bifpn_jax.weights.formats.opening import WeightFile
from bifpn_jax.weights.matching_names import match_names, num_anchors, num_outputs
from bifpn_jax.weights.naming.scheme import Path, backbone_of
from bifpn_jax.weights.published.catalog import weights_catalog

# Settings that show in the names and shapes of weights. The others follow from them: for example,
# all published weights without biases before batch norms were trained with symmetric padding.
_VISIBLE = ("feature_network", "fusion", "conv_bias", "width", "network_repeats", "backbone")
# A file does not reveal these either; they depend on how it was trained, not on the architecture.
_OF_THE_TRAINING = ("mean_rgb", "std_rgb", "aspect_ratios")


class Candidate(NamedTuple):
    """A model that weights may belong to: `create_model(name, num_classes=…, **settings)`.

    With `is_backbone` it is an ImageNet classifier, and `name` is the name of its backbone.
    """

    name: str
    num_classes: int
    settings: Mapping[str, Any]
    is_backbone: bool = False

    def __str__(self) -> str:
        """Return the call that makes the model."""
        if self.is_backbone:
            return f"one with the backbone {self.name}"
        classes = {} if self.num_classes == 90 else {"num_classes": self.num_classes}
        settings = [f"{name}={value!r}" for name, value in {**classes, **self.settings}.items()]
        return f"{self.name} with {', '.join(settings)}" if settings else self.name


def fitting_models(
    file: WeightFile, kind: type[EfficientDet] | type[Classifier] = EfficientDet
) -> list[Candidate]:
    """Find released models whose variables all have values in a file, with nothing left over.

    Weights of an ImageNet classifier fit all models with its backbone, so only that is named.
    """
    if kind is Classifier or "feature_network" not in file.scheme.parts:
        models = ((Candidate(name, 1000, {}, True), Classifier(name)) for name in VARIANTS)
    else:
        models = _detectors(file)
    return [
        candidate
        for candidate, model in models
        if _deepest_fit(file, model) and not match_names(file, model).problem
    ]


def _detectors(file: WeightFile) -> Iterator[tuple[Candidate, EfficientDet]]:
    seen = []
    released = [(name, {}) for name in MODELS]
    released += [(entry.model, entry.settings) for entry in weights_catalog().values()]
    for name, settings in released:
        visible = {key: value for key, value in settings.items() if key in _VISIBLE}
        if name not in MODELS or (name, visible) in seen:
            continue
        seen.append((name, visible))
        settings = {k: v for k, v in settings.items() if k not in _OF_THE_TRAINING}
        model = create_model(name, **settings)
        outputs = num_outputs(file, model, "class_head")
        anchors = num_anchors(file, model)
        if not outputs or not anchors:
            continue
        classes = outputs // anchors
        yield Candidate(name, classes, settings), model.clone(num_classes=classes)


def _deepest_fit(file: WeightFile, model: EfficientDet | Classifier) -> bool:
    """Whether a few distinctive variables fit: quick, while `match_names` must trace the model."""
    names = file.entries.keys()
    for path, shape in _telling(model).items():
        entries = file.scheme.entries(path, model, names)
        if any(name not in names for name in entries):
            return False
        if file.scheme.convert([file.entries[name] for name in entries], path).shape != shape:
            return False
    return True


def _telling(model: EfficientDet | Classifier) -> dict[Path, tuple[int, ...]]:
    """Return {path: shape} of the last layers of backbone, feature network and heads."""
    is_detector = isinstance(model, EfficientDet)
    _, blocks = block_table(VARIANTS[backbone_of(model)])
    last = blocks[-1]
    hidden = last.filters_in * last.expand
    block = ("backbone", f"block_{len(blocks) - 1}", "project_conv", "kernel")
    found: dict[Path, tuple[int, ...]] = {block: (1, 1, hidden, last.filters_out)}
    if is_detector:
        square = (1, 1, model.width, model.width)
        cell, head = f"cell_{model.network_repeats - 1}", f"conv_{model.head_repeats - 1}"
        found[("feature_network", cell, "node_0_conv", "pointwise", "kernel")] = square
        found[("class_head", head, "pointwise", "kernel")] = square
    return found
