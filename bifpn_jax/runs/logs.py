"""The readable files of a run in its workdir: metrics, config and a table of its parameters.

``metrics.jsonl`` has one JSON object per logged step, so that tables and plots need only the
standard library; the same numbers go to TensorBoard event files in ``tensorboard/``.
``fusion_weights.jsonl`` has the normalised weights of the feature network's edges at the same
steps, and ``finished.json`` marks the run as finished.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from clu import parameter_overview
from tensorboardX import SummaryWriter

from bifpn_jax.json_files import write_json
from bifpn_jax.weights.naming.own import CONFIG_FILE

METRICS_FILE = "metrics.jsonl"
FUSION_WEIGHTS_FILE = "fusion_weights.jsonl"
FINISHED_FILE = "finished.json"
PARAMETERS_FILE = "parameters.txt"


class MetricWriter:
    """Appends the scalars of each logged step to ``metrics.jsonl`` and to TensorBoard.

    A resumed run appends to the same file. Repeated steps appear twice, and the later line counts.
    """

    def __init__(self, workdir: str | Path, *, first_step: int = 0, enabled: bool = True) -> None:
        """Open the files.

        Args:
            workdir: folder of the run, created if necessary.
            first_step: step that the run starts or resumes at; TensorBoard hides older numbers of
                later steps.
            enabled: False disables all calls, for all processes but the first.
        """
        self._file = self._events = self._workdir = None
        if not enabled:
            return
        self._workdir = workdir = Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        _drop_unfinished_line(workdir / METRICS_FILE)
        _drop_unfinished_line(workdir / FUSION_WEIGHTS_FILE)
        self._file = (workdir / METRICS_FILE).open("a", encoding="utf-8")
        self._events = SummaryWriter(
            str(workdir / "tensorboard"), purge_step=first_step or None, write_to_disk=True
        )

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Write and flush one line.

        Args:
            step: number of updates made.
            values: name, such as "train/loss" -> number, or numpy or jax scalar. Non-finite values
                become null.
        """
        if self._file is None:
            return
        numbers = {name: _number(name, value) for name, value in values.items()}
        line = json.dumps({"step": int(step), **numbers}, allow_nan=False, ensure_ascii=False)
        self._file.write(line + "\n")
        self._file.flush()
        for name, number in numbers.items():
            if number is not None:
                self._events.add_scalar(name, number, int(step))
        self._events.flush()

    def write_fusion_weights(self, step: int, weights: Mapping[str, Any]) -> None:
        """Append {"step": …, "weights": {node: [weight of each edge]}}, unless there are none."""
        if self._workdir is None or not weights:
            return
        rounded = {
            node: [round(float(weight), 6) for weight in edges] for node, edges in weights.items()
        }
        with (self._workdir / FUSION_WEIGHTS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": int(step), "weights": rounded}) + "\n")

    def close(self) -> None:
        """Close the files; further calls are errors."""
        if self._file is not None:
            self._file.close()
            self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_config(workdir: str | Path, config: Mapping[str, Any]) -> Path:
    """Write the whole config to ``config.json``, replacing an older one atomically."""
    return write_json(Path(workdir) / CONFIG_FILE, config)


def write_finished(workdir: str | Path, *, step: int, seconds: float) -> Path:
    """Mark a run as finished, with its last step and its training time in seconds."""
    return write_json(
        Path(workdir) / FINISHED_FILE, {"step": int(step), "seconds": round(seconds, 3)}
    )


def remove_finished(workdir: str | Path) -> None:
    """Remove the mark from a run that is continued or evaluated again."""
    (Path(workdir) / FINISHED_FILE).unlink(missing_ok=True)


def write_parameter_overview(workdir: str | Path, params: Any) -> str:
    """Write the table of all parameters, with their total, to ``parameters.txt`` and return it.

    Args:
        workdir: folder of the run, created if necessary.
        params: tree of parameters, or of their shapes.
    """
    overview = parameter_overview.get_parameter_overview(params, include_stats=False)
    path = Path(workdir) / PARAMETERS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(overview + "\n", encoding="utf-8")
    return overview


def _number(name: str, value: Any) -> int | float | None:
    array = np.asarray(value)
    if array.shape != () or array.dtype.kind not in "biuf":
        raise TypeError(f"metric {name} must be one number, it is {value!r}")
    number = array.item()
    return number if math.isfinite(number) else None


def _drop_unfinished_line(path: Path) -> None:
    """Remove an unfinished last line, which a killed run can leave behind."""
    if not path.exists():
        return
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)
