"""EfficientDet-D0. Published: AP 0.346 on COCO test-dev, 0.343 on val;
3.9 M parameters, 2.5 B multiply-adds.

bifpn train --config=configs/d0.py --workdir=runs/d0
"""

from bifpn_jax.recipe.by_name import recipe

get_config = recipe("d0")
