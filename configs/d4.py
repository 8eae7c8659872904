"""EfficientDet-D4. Published: AP 0.497 on COCO test-dev, 0.493 on val;
21 M parameters, 55 B multiply-adds.

bifpn train --config=configs/d4.py --workdir=runs/d4
"""

from bifpn_jax.recipe.by_name import recipe

get_config = recipe("d4")
