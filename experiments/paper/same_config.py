"""Checks that runs to be averaged or compared have the same config, apart from allowed fields."""

from collections.abc import Collection, Mapping
from typing import Any

from bifpn_jax.errors import UserError
from bifpn_jax.recipe.fields import ADDED_FIELDS, flat_fields

# Fields that do not affect the result, or that differ between seeds by design.
_FREE = (
    "seed",
    "name",
    "log.",
    "checkpoint.",
    "eval.every_epochs",
    "eval.batch_size",
    "data.data_dir",
    "data.num_threads",
    "model.remat",
    "data.train_images",
    "data.eval_images",
)


def check_same_config(configs: Mapping[str, Mapping[str, Any]], but: Collection[str] = ()) -> None:
    """Raise a UserError that names the first two runs whose configs differ, and where.

    Args:
        configs: run -> config as JSON.
        but: dotted fields that may differ.
    """
    flat = {run: ADDED_FIELDS | dict(flat_fields(config)) for run, config in configs.items()}
    for run, fields in list(flat.items())[1:]:
        first, wanted = next(iter(flat.items()))
        different = [
            f"{name} {_shown(wanted, name)} and {_shown(fields, name)}"
            for name in sorted({*wanted, *fields})
            if wanted.get(name) != fields.get(name)
            and not name.startswith(_FREE)
            and not _is_part(name, but)
        ]
        if different:
            raise UserError(
                f"{first} and {run} are not comparable, their configs differ: "
                f"{'; '.join(different)}. Run one of them again, or give them apart."
            )


def _is_part(name: str, fields: Collection[str]) -> bool:
    return any(name == field or name.startswith(f"{field}.") for field in fields)


def _shown(fields: Mapping[str, Any], name: str) -> str:
    return repr(fields[name]) if name in fields else "(absent)"
