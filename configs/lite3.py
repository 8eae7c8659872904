"""EfficientDet-Lite3. Published: AP 0.388 on COCO val;
8.4 M parameters, 7.5 B multiply-adds.

bifpn train --config=configs/lite3.py --workdir=runs/lite3
"""

from bifpn_jax.recipe.by_name import recipe

get_config = recipe("lite3")
