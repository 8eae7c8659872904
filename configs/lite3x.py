"""EfficientDet-Lite3x. Published: AP 0.426 on COCO val;
9.3 M parameters, 14 B multiply-adds.

bifpn train --config=configs/lite3x.py --workdir=runs/lite3x
"""

from bifpn_jax.recipe.by_name import recipe

get_config = recipe("lite3x")
