"""Command lines and weight files that cannot be used, of the commands that predict and evaluate."""

import json
import pickle
import struct

import cv2
import numpy as np
import pytest
from in_process import assert_refused, run_command

D0 = "--config=configs/d0.py"

# Command and its words; IN is a folder with one image -> what must be said.
WORDS = {
    "main": "a config is needed: --config=configs/d0.py",
    "main --config=": "a config is needed",
    "main --config=configs/d9.py": "no file configs/d9.py; did you mean",
    "main --config=configs/d0.py:debgu": "unknown switch 'debgu'",
    "main --config=README.md": "README.md is no config",
    f"main {D0} stray": "unexpected argument 'stray'",
    f"main {D0} --workdri=x": "did you mean --workdir",
    f"main {D0} --process_id=3 --process_count=1": "numbered from 0 to 0",
    f"main {D0} --process_count=0": "--process_count=0: give the number of processes",
    f"main {D0} --coordinator_address=host": "--coordinator_address=host: give the host",
    f"inspect_data {D0} --images=0": "--images=0",
    f"inspect_data {D0} --images=x": "--images=x",
    "predict IN": "--weights=… is missing",
    "predict --weights=absent.pth IN": "absent.pth: no such file or folder",
    "predict --weights=tf_efficientdet_d99 IN": "did you mean tf_efficientdet_d",
    "predict --weights=x": "no image is given",
    "predict --weights=x absent.jpg": "absent.jpg: no such image or folder",
    "predict --weights=x *.absent": "nothing fits this glob",
    "predict --weights=x --score=2 IN": "--score=2",
    "predict --weights=x --score=nan IN": "--score=nan",
    "predict --weights=x --nms=soft IN": "--nms=soft",
    "predict --weights=x --image_hw=64x IN": "--image_hw=64x: give height and width",
    "predict --weights=x --step=newest IN": "--step=newest: give best, latest",
    "predict --weights=x --output=/dev/null/x IN": "--output=/dev/null/x: cannot make",
    "evaluate --weights=x --bad_images=drop": "--bad_images=drop",
    "evaluate --weights=x --batch_size=-1": "--batch_size=-1",
    "export_weights --weights=x": "--output=… is missing",
    "export_weights --weights=x --output=/nowhere/a.safetensors": "there is no folder /nowhere",
    "fetch_weights absent_weights": "absent_weights",
}


class Harmful:
    """A pickle of it makes a file where it is read carelessly."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}

# Name -> (name of the file, its content, what must be said).
FILES = {
    "empty .pth": ("a.pth", b"", "holds no weights that can be read"),
    "text as .pth": ("a.pth", b"no weights", "holds no weights that can be read"),
    "cut-off zip": ("a.pth", b"PK\3\4" + bytes(90), "is damaged"),
    "harmful pickle": ("a.pth", None, "holds no weights that can be read"),
    "empty .safetensors": ("a.safetensors", b"", "holds no weights that can be read"),
    "text as .safetensors": (
        "a.safetensors",
        b"no weights here",
        "holds no weights that can be read",
    ),
    "header longer than the file": ("a.safetensors", b"\xff" * 8 + b"{}", "cannot be read"),
    "header that is not JSON": ("a.safetensors", safetensors(b"{oops"), "cannot be read"),
    "data cut off": ("a.safetensors", safetensors({"x": ENTRY}, b"1234"), "cannot be read"),
    "unknown names": (
        "a.safetensors",
        safetensors({"x": ENTRY}, b"12345678"),
        "entries of an unknown kind",
    ),
    "empty .tflite": ("a.tflite", b"", "holds no weights that can be read"),
    "text as .tflite": ("a.tflite", b"no weights here at all", "holds no weights that can be read"),
    "another kind": ("a.onnx", b"\x08\x07", "holds no weights that can be read"),
    "an image": ("a.jpg", b"\xff\xd8\xff\xe0" + bytes(90), "holds no weights that can be read"),
}


@pytest.fixture
def image(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.jpg"), np.full((20, 30, 3), 90, np.uint8))
    return folder


@pytest.mark.parametrize("line", WORDS)
def test_a_command_line_that_cannot_be_right(line, image, tmp_path):
    name, *words = [str(image) if word == "IN" else word for word in line.split(" ")]
    if not any(word.startswith("--output") for word in words) and name in ("predict", "evaluate"):
        words.append(f"--output={tmp_path / 'out'}")
    assert_refused(run_command(name, *words), WORDS[line])
    assert [path.name for path in image.iterdir()] == ["a.jpg"]


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_holds_no_weights(case, image, tmp_path):
    name, content, words = FILES[case]
    trace = tmp_path / "trace"
    file = tmp_path / name
    file.write_bytes(pickle.dumps({"state_dict": Harmful(trace)}) if content is None else content)
    before = file.read_bytes()
    ended = run_command("predict", f"--weights={file}", f"--output={tmp_path / 'out'}", image)
    assert_refused(ended, words, str(file))
    assert not trace.exists()
    assert file.read_bytes() == before
    assert not list((tmp_path / "out").iterdir())
