"""EfficientDet-D1. Published: AP 0.405 on COCO test-dev, 0.402 on val;
6.6 M parameters, 6.1 B multiply-adds.

bifpn train --config=configs/d1.py --workdir=runs/d1
"""

from bifpn_jax.recipe.by_name import recipe

get_config = recipe("d1")
