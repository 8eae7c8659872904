"""EfficientDet-D7x. Published: AP 0.551 on COCO test-dev, 0.544 on val;
77 M parameters, 410 B multiply-adds.

bifpn train --config=configs/d7x.py --workdir=runs/d7x
"""

from bifpn_jax.recipe.by_name import recipe

get_config = recipe("d7x")
