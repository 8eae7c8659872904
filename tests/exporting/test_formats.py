"""Exporters: by name, as an object and in a file of one's own."""

from itertools import pairwise

import jax
import numpy as np
import pytest
from in_process import assert_refused, run_command
from random_weights import random_variables
from tiny_model import tiny_model

import bifpn_jax
from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.errors import UserError
from bifpn_jax.exporting import Exporter, export_detector, save_detector
from bifpn_jax.weights.formats.safetensors_file import read_safetensors

CODE = """
from bifpn_jax.exporting import Exporter


def write(detector, path):
    path.write_text(" ".join(detector.class_names))


names = Exporter(".txt", write)
broken = Exporter(".txt", lambda detector, path: detector.nothing)
"""


@pytest.fixture(scope="module")
def detector():
    model = tiny_model()
    variables = random_variables(model, jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32))
    return bifpn_jax.Detector(model, variables, LabelMap((1, 2, 3), ("ant", "bee", "cow")))


@pytest.fixture
def code(tmp_path):
    file = tmp_path / "my_export.py"
    file.write_text(CODE)
    return file


def test_by_default_it_is_the_file_that_loads(detector, tmp_path):
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors", "c.safetensors")]
    export_detector(detector, paths[0])
    export_detector(detector, paths[1], format="safetensors")
    save_detector(paths[2], detector)
    contents = [read_safetensors(path) for path in paths]  # the order in the header may differ
    for (arrays, metadata), (others, same) in pairwise(contents):
        jax.tree.map(np.testing.assert_array_equal, arrays, others)
        assert metadata == same
    assert bifpn_jax.load_detector(paths[0]).class_names == detector.class_names


def test_an_exporter_of_ones_own(detector, code, tmp_path):
    path = tmp_path / "names.txt"
    exporter = Exporter(".txt", lambda detector, path: path.write_text("mine"))
    export_detector(detector, path, format=exporter)
    assert path.read_text() == "mine"
    with pytest.raises(UserError, match="code in a file, which is not run without consent"):
        export_detector(detector, path, format=f"{code}:names")
    bifpn_jax.trust_code(f"{code}:names")
    export_detector(detector, path, format=f"{code}:names")
    assert path.read_text() == "ant bee cow"


def test_the_command_takes_it(detector, code, tmp_path):
    save_detector(tmp_path / "x.safetensors", detector)
    weights, output = f"--weights={tmp_path / 'x.safetensors'}", tmp_path / "names.txt"
    ended = run_command("export", weights, f"--format={code}:names", f"--output={output}")
    assert ended == (0, f"{output}\n", "")
    assert output.read_text() == "ant bee cow"
    ended = run_command("export", weights, f"--format={code}:broken", f"--output={output}")
    assert_refused(ended, r"broken fails: AttributeError: .*'nothing' \(.*my_export.py, line 10\)")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--format=safetensor --output=a.safetensors", "unknown format .*did you mean 'safetens"),
        ("--format=onnx --output=a.onnx", "unknown format 'onnx': choose from safetensors"),
        ("--format=CODE:names --output=a.npz", r"--output=a.npz: the file name must end in \.txt"),
        ("--format=CODE:names --output=.txt", r"--output=.txt: the file name must end in \.txt"),
        ("--format=CODE:names --output=/nowhere/a.txt", "no folder /nowhere; make it first"),
        ("--format=CODE:names --output=FOLDER", "a.txt: this is a folder; name a file in it"),
        ("--format=CODE:write --output=a.txt", "--format=.*:write: this is a function; make it"),
        ("--format=CODE:nmes --output=a.txt", "there is no nmes in .*; did you mean names"),
        ("--format=absent.py:x --output=a.txt", "absent.py: no such file of code"),
    ],
)
def test_what_cannot_be_is_refused_before_weights_are_read(words, said, code, tmp_path):
    (tmp_path / "a.txt").mkdir()
    words = words.replace("CODE", str(code)).replace("FOLDER", str(tmp_path / "a.txt"))
    assert_refused(run_command("export", "--weights=absent", *words.split()), said)


def test_a_folder_that_cannot_be_written_is_one_line(detector, tmp_path):
    def write(detector, path):
        raise PermissionError(13, "Permission denied", str(path))

    with pytest.raises(UserError, match=r"a\.txt cannot be written \(Permission denied\); check"):
        export_detector(detector, tmp_path / "a.txt", format=Exporter(".txt", write))
