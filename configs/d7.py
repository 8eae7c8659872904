"""EfficientDet-D7. Published: 53.7 AP on COCO test-dev, 53.4 on val;
52 M parameters, 325 B multiply-adds.

python -m experiments.main --config=configs/d7.py --workdir=runs/d7
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str | None = None) -> ConfigDict:
    """See `configs.base`."""
    config = base.get_config("d7", arg)
    config.train.epochs = 600.0  # published for D7 and D7x
    return config
