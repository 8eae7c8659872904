"""Asks for consent before downloading COCO 2017, which is large."""

import sys

from absl import flags
from ml_collections import ConfigDict

from bifpn_jax.command_line.flag_names import flags_of_fields, in_flags
from bifpn_jax.errors import UserError


def define_download_flag() -> None:
    """Define ``--download``, which gives consent in advance."""
    flags.DEFINE_bool("download", False, "Download COCO 2017 without asking if it is not there.")


def ask_before_download(data: ConfigDict, agreed: bool, instead: str = "") -> None:
    """Say how large COCO is if it is needed and missing, and return only with consent.

    Args:
        data: the data fields of the config.
        agreed: whether consent has already been given.
        instead: the alternative for commands without a config to change.

    Raises:
        UserError: there is no consent; the message gives the alternative.
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
