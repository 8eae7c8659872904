"""Command lines and weight files that cannot be used, of the commands that predict and evaluate."""

import json
import os
import pickle
import struct
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest
from in_process import ROOT, Ended, assert_refused, run_command

from bifpn_jax.command_line import trained_model
from bifpn_jax.data.coco.coco_categories import COCO
from bifpn_jax.errors import UserError
from bifpn_jax.recipe import base
from bifpn_jax.trained import Detector

D0 = "--config=configs/d0.py"

# Command and its words; IN is a folder with one image -> what must be said.
WORDS = {
    "main": "a config is needed: --config=configs/d0.py",
    "main --config=": "a config is needed",
    "main --config=configs/d9.py": "no file configs/d9.py; did you mean",
    "main --config=configs/d0.py:debgu": "unknown switch 'debgu'",
    "main --config=README.md": "README.md is not a config",
    f"main {D0} stray": "unexpected argument 'stray'",
    f"main {D0} --workdri=x": "did you mean --workdir",
    f"main {D0} --config.model.name=d4": "changes none of them; take that model's file",
    f"main {D0} --process_id=3 --process_count=1": "numbered from 0 to 0",
    f"main {D0} --process_count=0": "--process_count=0: give the number of processes",
    f"main {D0} --coordinator_address=host": "--coordinator_address=host: give the host",
    f"inspect {D0} --images=0": "--images=0",
    f"inspect {D0} --images=x": "--images=x",
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
    "eval --weights=x --bad_images=drop": "--bad_images=drop",
    "eval --weights=x --batch_size=-1": "--batch_size=-1",
    "export --weights=x": "--output=… is missing",
    "export --weights=x --output=/nowhere/a.safetensors": "there is no folder /nowhere",
    "export --weights=x --output=a.pth": "end in .safetensors",
    "weights absent_weights": "absent_weights",
    # Words after the colon.
    "main --config=configs/d1.py:debg": "unknown switch 'debg' .*: use debug",
    "main --config=configs/finetune.py:lite9": "did you mean lite4. There are lite4, lite3, .*d0",
    "main --config=configs/finetune.py:backbon": "did you mean backbone. There are backbone, debug",
    "main --config=configs/finetune.py:Lite1": "did you mean lite1",
    "main --config=configs/finetune.py:lite0,d1": "lite0 and d1 after .*: give one model",
    "main --config=configs/scaled.py:ph=1": "no factor 'ph'; use phi, ",
    "main --config=configs/scaled.py:phi": "did you mean phi=1",
    "main --config=configs/ablations/fusion.py:shape": "did you mean shapes. There are shapes, deb",
    "sweep --config=configs/ablations/scaling.py:shape": "did you mean shapes",
    # Models that are taken for weights.
    "predict --weights=lite0 IN": "'lite0' is a model, not weights; .*: tf_efficientdet_lite0, ",
    "eval --weights=d0": "is a model, .* weights: tf_efficientdet_d0, tf_efficientdet_d0_ap",
    "eval --weights=efficientdet_lite0": "is a model, .*tf_efficientdet_lite0, efficientdet-l",
    "eval --weights=Lite0": "'Lite0' is a model",
    "weights EfficientNet-B0": "is a model, .*: tf_efficientnet_b0, ",
    # Other ways to write an option.
    "main configs/d0.py": "a config is needed; did you mean --config=configs/d0.py",
    f"main {D0} config.train.steps=3": "did you mean --config.train.steps=3",
    f"main {D0} –config.train.steps=3": "begins with '–', not with hyphens; write --config.tr",
    f"main {D0} —-workdir=x": "begins with '—', not with hyphens; write --workdir=x",
    f"main {D0} --workdir='runs/x'": "the quotes have become part .* write --workdir=runs/x",
    f"main {D0} --workdir=“runs/x”": "a shell does not take these as quotes",
    f"main {D0} --config.augment.flip false": "write --config.augment.flip=false",
    f"main {D0} --download yes": "write --download=true",
    f"main {D0} --download=yes": "--download=yes: give true or false",
    f"main {D0} --batch-size=8": "did you mean --config.eval.batch_size or --config.train.batch",
    f"main {D0} --epochs=8": "did you mean --config.train.epochs",
    f"main {D0} --lr=8": "--help lists the flags, --help_config the fields",
    f"main {D0} --workdir": "--workdir has no value; write --workdir=",
    f"main {D0} --workdir=": "--workdir= is empty; give it a value, or leave it out",
    f"main {D0} --start_timeout=0": "--start_timeout=0: give a whole number, at least 1",
    f"main {D0} --help_config=maybe": "--help_config=maybe: give true or false",
    "eval --config=configs/d0.py": "model of --weights brings its config along",
    "eval --weights=": "--weights= is empty; give it a value[.]",
    "eval --weights=x --images= --annotations=": "--images= is empty",
    "eval --weights=x --ema false": "write --ema=false",
    "eval --weights=x --batch_size=0.5": "give a whole number, at least 0",
    "predict --weights=x --class_names=cat, dog IN": "without spaces, --class_names=cat,dog",
    "predict --weights=x  IN": "one of the arguments is empty",
    "predict --weights=x --score=0,5 IN": "--score=0,5: give a number from 0 to 1",
    "predict --weights=~/absent.pth IN": "^error: /.*/absent.pth: no such file",
    "predict --weights=x --image_hw=16 IN": "32 pixels or more",
    "compare_effdet --tolerance=nan": "--tolerance=nan: give a number",
    "memorize --images=IN": "--annotations=… is missing",
    "memorize --images=IN --annotations=absent": r"absent: no such .* \(--annotations=FILE\)",
    "sweep --config=configs/ablations/fusion.py --seeds=0, 1": "without spaces, --seeds=0,1",
    "sweep --config=configs/ablations/fusion.py --rows=": "--rows= is empty",
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
    if not any(word.startswith("--output") for word in words) and name in ("predict", "eval"):
        words.append(f"--output={tmp_path / 'out'}")
    assert_refused(run_command(name, *words), WORDS[line])
    assert [path.name for path in image.iterdir()] == ["a.jpg"]


COCO_WITHOUT = ("coco2017", {})
NO_FILES = ("coco_json", {})
NO_FOLDER = ("coco_json", {"eval_images": "/absent", "eval_annotations": "ANNOTATIONS"})
NOT_PREPARED = ("voc/2007", {})

# Command and the data in the config of its model -> what must be said.
OWN_DATA = [
    ("eval", COCO_WITHOUT, "with --download, or name images with --images=DIR --annotations="),
    ("eval", NO_FILES, "needs --images=DIR; name images with --images=DIR --annotations=FILE"),
    ("eval", NO_FOLDER, r"/absent: no such folder .* \(--images=DIR\); name images"),
    ("eval", NOT_PREPARED, "'voc/2007' is not prepared .*; name images with --images=DIR"),
    ("predict", COCO_WITHOUT, "with --download, or name images in the place of --eval_images"),
    ("predict", NO_FILES, "; name images in the place of --eval_images"),
    ("predict", NO_FOLDER, r"/absent: no such folder .* \(config.data.eval_images=DIR\)"),
]


@pytest.mark.parametrize(("name", "data", "words"), OWN_DATA)
def test_own_data_that_is_not_here(name, data, words, monkeypatch, tmp_path, coco):
    source, fields = data
    config = base.get_config("d0")
    config.data.update({"source": source, "data_dir": str(tmp_path), **fields})
    if "eval_annotations" in fields:
        config.data.eval_annotations = str(coco.annotations)
    detector = Detector(None, {}, COCO, config=json.loads(config.to_json()))
    monkeypatch.setattr(trained_model, "load_from_flags", lambda: detector)
    options = ["--eval_images=2"] if name == "predict" else []
    ended = run_command(name, "--weights=x", f"--output={tmp_path / 'out'}", *options)
    assert_refused(ended, words)
    # Neither command has these flags.
    assert "--config" not in ended.err


FRAMES = {"192": (192, 192), "192x256": (192, 256), "192,256": (192, 256), "(64, 96)": (64, 96)}


@pytest.mark.parametrize("size", FRAMES)
def test_the_size_of_the_frame(size, monkeypatch, image, tmp_path):
    """The flag of commands that predict, and the field of a config."""
    seen = []

    def load_detector(*_, image_hw, **__):
        seen.append(image_hw)
        raise UserError("enough")

    monkeypatch.setattr(trained_model, "load_detector", load_detector)
    run_command("predict", "--weights=x", f"--image_hw={size}", f"--output={tmp_path}", image)
    ended = run_command("train", D0, f"--config.model.image_hw={size}", "--help_config")
    assert seen == [FRAMES[size]]
    assert f"--config.model.image_hw='{FRAMES[size]}'" in ended.out


def test_a_home_folder_is_written_out(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    words = "--config.data.data_dir=~/sets", "--config.init_from=~"
    ended = run_command("train", D0, *words, "--help_config")
    assert f"--config.data.data_dir={tmp_path}/sets\n" in ended.out
    assert f"--config.init_from={tmp_path}\n" in ended.out


@pytest.mark.parametrize("platforms", ["cuda", "nonsense"])
def test_a_platform_that_is_not_here(platforms):
    if jax.default_backend() != "cpu":
        pytest.skip("what is missing here is for machines without an accelerator")
    ended = subprocess.run(
        [sys.executable, "-m", "bifpn_jax", "predict", "--weights=x", "README.md"],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": platforms},
        capture_output=True,
        text=True,
    )
    assert_refused(
        Ended(ended.returncode, ended.stdout, ended.stderr),
        f"JAX_PLATFORMS={platforms}: .*it finds cpu. Leave JAX_PLATFORMS unset",
    )


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


def test_a_config_does_not_register_parts(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from bifpn_jax.models.fusion import NORMALIZERS\n"
        "from bifpn_jax.recipe import base\n"
        "NORMALIZERS['mine'] = lambda weights: weights\n"
        "def get_config(arg=None):\n    return base.get_config('d0', arg)\n"
    )
    ended = run_command("train", f"--config={file}", f"--workdir={tmp_path / 'run'}")
    assert_refused(ended, "fusion 'mine': .* set --config.model.fusion=FILE.py:NAME")
    ended = run_command("train", D0, "--config.model.fusion=absent.py:f", f"--workdir={tmp_path}")
    assert_refused(ended, r"absent\.py: no such file of code")
