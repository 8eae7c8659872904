"""COCO 2017 is large: nothing of it is downloaded before someone has agreed."""

import sys

from absl import flags
from ml_collections import ConfigDict

from bifpn_jax.command_line.flag_names import flags_of_fields, in_flags
from bifpn_jax.errors import UserError


def define_download_flag() -> None:
    """Defines ``--download``, which agrees beforehand."""
    flags.DEFINE_bool("download", False, "Download COCO 2017 without asking if it is not there.")


def ask_before_download(data: ConfigDict, agreed: bool, instead: str = "") -> None:
    """Says what COCO costs where it is needed and not there, and returns only with consent.

    Args:
        data: the config's part on data.
        agreed: whether consent is given already.
        instead: how a command does without that has no config to change.

    Raises:
        UserError: nobody agreed; it says how to do without.
    """
    if data.source != "coco2017" or agreed:
        return
    from bifpn_jax.data.sources.coco2017 import INSTEAD, download_plan

    plan = download_plan(data.data_dir or None)
    if plan is None:
        return
    instead = instead or in_flags(INSTEAD, flags_of_fields({"data": data}))
    if not sys.stdin.isatty():
        print(plan)
        raise UserError(
            f"COCO 2017 is not here: agree to the download with --download, or {instead}."
        )
    print(f"{plan} Instead you can {instead}")
    if input("Download it now? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError(f"without COCO 2017, {instead}.")
