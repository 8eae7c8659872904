"""Export formats by name, and writing a detector in one of them or in a custom format."""

import tempfile
from pathlib import Path

from bifpn_jax.errors import UserError
from bifpn_jax.exporting import safetensors_file
from bifpn_jax.exporting.exporter import Exporter
from bifpn_jax.named_parts import Parts, reported
from bifpn_jax.trained.detector import Detector, check_detector

EXPORTERS = Parts("format", {"safetensors": safetensors_file.EXPORTER})


def export_detector(
    detector: Detector, path: str | Path, *, format: str | Exporter = "safetensors"
) -> None:
    """Write a detector to a file of a format.

    Args:
        detector: what to write, with its settings as they are now.
        path: the file, with the ending of the format; an existing one is replaced.
        format: key of `EXPORTERS`; an `Exporter`; or the place of one, `FILE.py:NAME`, which
            `bifpn_jax.trust_code` has to allow first.

    Raises:
        UserError: there is no such format, the file's name has another ending, its folder is
            missing, or the detector cannot be written.
    """
    check_detector(detector)
    exporter = find_exporter(format)
    path = output_path(path, exporter)
    name = format if isinstance(format, str) else exporter.ending
    with reported(f"format {name}"):
        try:
            # In a folder of its own at first: what fails leaves nothing behind.
            with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
                _write_in(Path(folder), exporter, detector, path, name)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror or error}); check the folder and its "
                "free space."
            ) from error


def _write_in(folder: Path, exporter: Exporter, detector: Detector, path: Path, name: str) -> None:
    """Write the file, and any others, in a folder, then move them all to where they belong."""
    written = folder / path.name
    try:
        exporter.write(detector, written)
    except UserError as error:
        raise UserError(str(error).replace(str(written), str(path))) from error
    if not written.is_file():
        files = ", ".join(sorted(file.name for file in folder.iterdir())) or "nothing"
        raise UserError(f"format {name} has written {files}, not {path.name}; correct it there.")
    for file in folder.iterdir():
        file.replace(path.parent / file.name)


def save_detector(path: str | Path, detector: Detector) -> None:
    """Write a detector to a file that `load_detector` reads back as the same detector.

    Args:
        path: the file, `.safetensors`; an existing one is replaced.
        detector: what to write, with its settings as they are now.

    Raises:
        UserError: the name does not end in .safetensors, its folder is missing, the model has a
            part that is not a name, or the file cannot be written.
    """
    export_detector(detector, path, format="safetensors")


def find_exporter(format: str | Exporter) -> Exporter:
    """The exporter of a name, of a place of code, or the exporter itself.

    Raises:
        UserError: there is none, with the nearest name; or what is there is no exporter.
    """
    exporter = EXPORTERS.find(format)
    if not isinstance(exporter, Exporter):
        raise UserError(
            f"format={format}: this is a {type(exporter).__name__}; make it a "
            'bifpn_jax.exporting.Exporter, NAME = Exporter(".npz", write).'
        )
    return exporter


def output_path(path: str | Path, exporter: Exporter) -> Path:
    """The path of a file to write, checked before anything is computed.

    Raises:
        UserError: it has another ending than the format, is a folder, or its folder is missing.
    """
    path = Path(path).expanduser()
    if not path.name.endswith(exporter.ending) or path.name == exporter.ending:
        raise UserError(f"path={path}: the file name must end in {exporter.ending}.")
    if path.is_dir():
        raise UserError(f"path={path}: this is a folder; name a file in it.")
    if not path.parent.is_dir():
        raise UserError(f"path={path}: there is no folder {path.parent}; make it first.")
    return path
