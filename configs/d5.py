"""EfficientDet-D5. Published: AP 0.515 on COCO test-dev, 0.513 on val;
34 M parameters, 135 B multiply-adds.

bifpn train --config=configs/d5.py --workdir=runs/d5
"""

from bifpn_jax.recipe.by_name import recipe

get_config = recipe("d5")
