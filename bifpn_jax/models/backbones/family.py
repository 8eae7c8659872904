"""What a family of backbones is: its variants, their module, and their layers' published names."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn


class Family(NamedTuple):
    """A family of backbones.

    Attributes:
        module: called with a key of `variants`, then as a backbone is (see this package).
        variants: {name of a backbone: what its module looks up there}.
        names: {code base: function}. A function is called with a layer's path inside the backbone
            and a key of `variants`, and returns what the code base's files call the layer, without
            the leaf ("kernel", "scale", …), whose name is the code base's own matter.
    """

    module: Callable[..., nn.Module]
    variants: Mapping[str, Any]
    names: Mapping[str, Callable[[Sequence[str], str], str]]
