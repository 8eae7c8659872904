"""EfficientDet-D7. Published: AP 0.537 on COCO test-dev, 0.534 on val;
52 M parameters, 325 B multiply-adds.

bifpn train --config=configs/d7.py --workdir=runs/d7
"""

from bifpn_jax.recipe.by_name import recipe

get_config = recipe("d7")
