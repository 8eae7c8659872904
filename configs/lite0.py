"""EfficientDet-Lite0. Published: AP 0.264 on COCO val;
3.2 M parameters, 0.98 B multiply-adds.

bifpn train --config=configs/lite0.py --workdir=runs/lite0
"""

from bifpn_jax.recipe.by_name import recipe

get_config = recipe("lite0")
