"""Trained detectors as files for elsewhere: a file per format, `Exporter` is their interface."""

from bifpn_jax.exporting.exporter import Exporter
from bifpn_jax.exporting.formats import (
    EXPORTERS,
    export_detector,
    find_exporter,
    output_path,
    save_detector,
)

__all__ = [
    "EXPORTERS",
    "Exporter",
    "export_detector",
    "find_exporter",
    "output_path",
    "save_detector",
]
