"""EfficientDet-Lite2. Published: AP 0.351 on COCO val;
5.3 M parameters, 3.4 B multiply-adds.

bifpn train --config=configs/lite2.py --workdir=runs/lite2
"""

from bifpn_jax.recipe.by_name import recipe

get_config = recipe("lite2")
