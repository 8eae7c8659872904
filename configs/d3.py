"""EfficientDet-D3. Published: AP 0.472 on COCO test-dev, 0.468 on val;
12 M parameters, 25 B multiply-adds.

bifpn train --config=configs/d3.py --workdir=runs/d3
"""

from bifpn_jax.recipe.by_name import recipe

get_config = recipe("d3")
