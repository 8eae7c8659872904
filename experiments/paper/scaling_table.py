"""Table 1: the compound scaling rule and the released models."""

from ml_collections import ConfigDict

from bifpn_jax.models.scaling import MODELS, compound_scaling
from experiments.paper import counts, paper_numbers
from experiments.paper.table import Cell, Column, Table

_FACTORS = {
    "image_size": "Input size",
    "width": "Channels",
    "network_repeats": "BiFPN cells",
    "head_repeats": "Head layers",
}


def table1() -> Table:
    """Return the rule, the paper and the configs of D0-D7x."""
    columns = [Column("Model"), Column("φ"), Column("Backbone: paper"), Column("Backbone: ours")]
    for title in _FACTORS.values():
        columns += [Column(f"{title}: {whose}") for whose in ("rule", "paper", "ours")]
    rows, different = [], []
    for name, paper in paper_numbers.SCALING.items():
        ours = _scaling(counts.released_config(name))
        rule = compound_scaling(MODELS[name].phi)
        row: list[Cell] = [paper_numbers.title(name), str(MODELS[name].phi)]
        row += [paper.backbone.upper(), ours.backbone.upper()]
        for factor in _FACTORS:
            row += [getattr(rule, factor), getattr(paper, factor), getattr(ours, factor)]
        rows.append(row)
        if paper != ours:
            different.append(paper_numbers.title(name))
    caption = (
        "Rule: W = 64·1.35^φ channels, 3 + φ cells, 3 + ⌊φ/3⌋ head layers, 512 + 128·φ pixels. "
        "Paper: Table 1, which follows the rule only roughly. Ours: `configs/d0.py` … "
        "`configs/d7x.py`. Input size is the side of the square image in pixels."
    )
    agreement = (
        f"Ours differ from the paper's in {', '.join(different)}."
        if different
        else "Ours equal the paper's in every cell."
    )
    return Table("table1", "Table 1: compound scaling", columns, rows, caption, [agreement])


def _scaling(config: ConfigDict) -> paper_numbers.Scaling:
    model = config.model
    return paper_numbers.Scaling(
        model.image_hw[0], model.backbone, model.width, model.network_repeats, model.head_repeats
    )
