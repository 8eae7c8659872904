"""Names of TensorFlow's ImageNet EfficientNets, which google/automl's backbones share."""

import re
from collections.abc import Collection

from bifpn_jax.weights.naming import automl
from bifpn_jax.weights.naming.scheme import CLASSIFIER


def recognises(names: Collection[str]) -> bool:
    """Whether these are names of a classifier and of no detector."""
    stem = re.compile(r"efficientnet-\w+/stem/conv2d/kernel")
    return any(map(stem.fullmatch, names)) and not automl.recognises(names)


SCHEME = automl.SCHEME._replace(
    label="TensorFlow ImageNet EfficientNet", parts=CLASSIFIER, recognises=recognises
)
