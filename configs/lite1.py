"""EfficientDet-Lite1. Published: AP 0.315 on COCO val;
4.2 M parameters, 2.0 B multiply-adds.

bifpn train --config=configs/lite1.py --workdir=runs/lite1
"""

from bifpn_jax.recipe.by_name import recipe

get_config = recipe("lite1")
