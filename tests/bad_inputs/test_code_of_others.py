"""Workdirs and files that name code, which is not run without consent: it would leave a mark."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from in_process import assert_refused, run_command

from bifpn_jax import named_parts
from bifpn_jax.recipe import base
from bifpn_jax.runs.starting_weights import with_settings_of_weights
from bifpn_jax.train.checkpoints import Checkpoints
from bifpn_jax.weights import save_weights

LABEL_MAP = {"category_ids": [1, 2], "names": ["cat", "dog"]}
FIELDS = ("fusion", "activation", "feature_network")


@pytest.fixture(autouse=True)
def nothing_is_trusted(monkeypatch):
    monkeypatch.setattr(named_parts, "_trusted", set())


@pytest.fixture
def mark(tmp_path):
    """What the code would make."""
    return tmp_path / "mark"


@pytest.fixture
def place(tmp_path, mark):
    code = tmp_path / "hostile.py"
    touch = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n"
    code.write_text(f"{touch}def part(*_, **__):\n    raise SystemExit(9)\n")
    return f"{code}:part"


@pytest.fixture(params=["workdir", "file"])
def weights(request, tmp_path):
    """Makes weights whose config names code, as a workdir or as one file."""

    def make(group, field, place):
        config = json.loads(base.get_config("d0").to_json())
        config["model"]["backbone"] = "nano"
        config[group][field] = place
        arrays = {"backbone": {"stem_conv": {"kernel": jnp.arange(8.0)}}}
        if request.param == "file":
            path = tmp_path / "theirs.safetensors"
            variables = {"params": jax.tree.map(np.asarray, arrays), "batch_stats": {}}
            texts = {"config": json.dumps(config), "label_map": json.dumps(LABEL_MAP)}
            save_weights(path, variables, texts)
            return path
        path = tmp_path / "theirs"
        checkpoints = Checkpoints(path)
        state = {"ema_params": arrays, "ema_batch_stats": arrays}
        checkpoints.save(3, state, {"next_index": 0}, {"config": config, "label_map": LABEL_MAP})
        checkpoints.close()
        (path / "config.json").write_text(json.dumps(config))
        return path

    return make


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("command", ["predict", "eval", "export"])
def test_commands_that_load_weights(command, field, weights, place, mark, tmp_path):
    theirs = weights("model", field, place)
    output = tmp_path / ("a.safetensors" if command == "export" else "out")
    words = ["README.md"] if command == "predict" else []
    ended = run_command(command, f"--weights={theirs}", f"--output={output}", *words)
    assert_refused(ended, f"{field}=.*hostile.py:part, code in a file .* set --trust_code[.]")
    assert not mark.exists()
    run_command(command, f"--weights={theirs}", f"--output={output}", *words, "--trust_code")
    assert mark.exists()


@pytest.mark.parametrize("field", FIELDS)
def test_a_run_that_starts_from_them(field, weights, place, mark, tmp_path):
    theirs = weights("model", field, place)
    config = base.get_config("d0")
    config.init_from, config.init_settings = str(theirs), True
    config.model.backbone = "nano"
    with pytest.raises(named_parts.UserError, match=r"set trust_code=True or config[.]model"):
        with_settings_of_weights(config, say=lambda _: None)
    assert not mark.exists()
    # The name on the command line, or trust in all that they name.
    given = with_settings_of_weights(config, say=lambda _: None, trust_code=True)
    assert given.model[field] == place
    assert named_parts.is_trusted(place)


@pytest.mark.parametrize(
    ("group", "field"), [*(("model", field) for field in FIELDS), ("optimizer", "name")]
)
def test_a_workdir_in_which_a_run_is_to_go_on(group, field, place, mark, drawn, tmp_path):
    """Its config is not that of the command line, and nothing of it is run."""
    config = json.loads(base.get_config("d0").to_json())
    config[group][field] = place
    workdir = tmp_path / "run"
    checkpoints = Checkpoints(workdir)
    arrays = {"x": {"kernel": jnp.arange(8.0)}}
    checkpoints.save(
        3,
        {"ema_params": arrays, "ema_batch_stats": arrays},
        {"next_index": 0},
        {"config": config, "label_map": LABEL_MAP},
    )
    checkpoints.close()
    shutil.copytree(workdir, tmp_path / "copy")
    ended = run_command(
        "train",
        "--config=configs/d0.py",
        "--process_count=1",
        *drawn,
        "--config.model.min_level=5",
        "--config.model.max_level=6",
        f"--workdir={workdir}",
    )
    assert_refused(ended, f"holds a run with another config: .*{group}.{field}=")
    assert not mark.exists()
