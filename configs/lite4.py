"""EfficientDet-Lite4. Published: AP 0.432 on COCO val;
15 M parameters, 20 B multiply-adds.

bifpn train --config=configs/lite4.py --workdir=runs/lite4
"""

from bifpn_jax.recipe.by_name import recipe

get_config = recipe("lite4")
