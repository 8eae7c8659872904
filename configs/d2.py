"""EfficientDet-D2. Published: AP 0.439 on COCO test-dev, 0.435 on val;
8.1 M parameters, 11 B multiply-adds.

bifpn train --config=configs/d2.py --workdir=runs/d2
"""

from bifpn_jax.recipe.by_name import recipe

get_config = recipe("d2")
