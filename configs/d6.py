"""EfficientDet-D6. Published: AP 0.526 on COCO test-dev, 0.522 on val;
52 M parameters, 226 B multiply-adds.

bifpn train --config=configs/d6.py --workdir=runs/d6
"""

from bifpn_jax.recipe.by_name import recipe

get_config = recipe("d6")
