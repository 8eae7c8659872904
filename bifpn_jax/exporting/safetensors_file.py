"""One `.safetensors` file that can replace the detector wherever weights are expected."""

import json
from pathlib import Path

from bifpn_jax.errors import UserError
from bifpn_jax.exporting.exporter import Exporter
from bifpn_jax.trained.config import config_of
from bifpn_jax.trained.detector import Detector
from bifpn_jax.weights import save_weights


def write_safetensors(detector: Detector, path: Path) -> None:
    """Write weights, config and classes, from which `load_detector` makes the same detector.

    Raises:
        UserError: the model has a part that is not a name, or the file cannot be written.
    """
    name = detector.config.get("model", {}).get("name", "d0")
    own = config_of(
        detector.model,
        name=name,
        antialias=detector.antialias,
        postprocessing=detector.postprocessing,
    )
    config = {**own, **detector.config}
    for group in ("model", "data", "eval"):
        config[group] = {**detector.config.get(group, {}), **own[group]}
    # The label map gives the number; in a config it may be 0, for as many as the data has.
    config["model"]["num_classes"] = detector.config.get("model", {}).get("num_classes", 0)
    try:
        text = json.dumps(config)
    except TypeError as error:
        raise UserError(
            f"{path}: the model has a part that is not a name and cannot be written ({error}); "
            "write the weights alone with save_weights."
        ) from error
    label_map = json.dumps(detector.label_map.to_json())
    save_weights(path, detector.variables, {"config": text, "label_map": label_map})


EXPORTER = Exporter(".safetensors", write_safetensors)
