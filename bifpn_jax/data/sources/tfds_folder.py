"""Finds prepared TFDS datasets by name."""

import difflib
import json
import re
from fnmatch import fnmatch
from pathlib import Path

import tensorflow_datasets as tfds

from bifpn_jax.errors import UserError


def tfds_dir(data_dir: str | Path | None) -> Path:
    """Return the folder of the prepared TFDS datasets: ``data_dir``, or TFDS's default."""
    return Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()


def find_prepared(name: str, root: Path) -> Path:
    """Return the folder of a prepared dataset: the requested version, or the newest."""
    path, _, version = name.partition(":")
    there = sorted(
        (folder for folder in (root / path).glob("*") if _has_version_name(folder)),
        key=lambda folder: tfds.core.Version(folder.name),
    )
    found = [folder for folder in there if fnmatch(folder.name, version or "*")]
    if not found:
        others = [f"{path}:{folder.name}" for folder in there]
        # The name may be above a config, as in "voc", or next to it.
        for level in (root / path, (root / path).parent):
            files = () if others or level == root else level.glob("*/*/features.json")
            configs = sorted({file.parent.parent.name for file in files})
            others += [f"{level.relative_to(root)}/{config}" for config in configs]
        near = f" (there is {', '.join(others)})" if others else _known_name(path.split("/")[0])
        raise UserError(
            f"TFDS set {name!r} is not prepared in {root}{near}",
            f"set data_dir to where it is, or prepare it: {_prepare_command(name, root)}",
        )
    info = json.loads((found[-1] / "dataset_info.json").read_text())
    written = info.get("fileFormat", "tfrecord")
    if written != "array_record":
        raise UserError(
            f"{found[-1]}: prepared as {written}, which only TensorFlow can read",
            f"delete that folder and prepare it as array_record: {_prepare_command(path, root)}",
        )
    return found[-1]


def _known_name(name: str) -> str:
    """Return a hint at the TFDS dataset that an unknown name may mean."""
    known = tfds.list_builders(with_community_datasets=False)
    near = [] if name in known else difflib.get_close_matches(name, known, 1, 0.75)
    return f" (did you mean {near[0]}?)" if near else ""


def _has_version_name(folder: Path) -> bool:
    is_version = re.fullmatch(r"\d+\.\d+\.\d+", folder.name) is not None
    return is_version and (folder / "dataset_info.json").is_file()


def _prepare_command(name: str, root: Path) -> str:
    return (
        f'python -c "import tensorflow_datasets as tfds; tfds.builder({name!r}, '
        f"data_dir={str(root)!r}, file_format='array_record').download_and_prepare()\" "
        "(some sets need TensorFlow for this step: pip install 'bifpn_jax[tensorflow]')"
    )
