"""TensorFlow checkpoints of both kinds, written by TensorFlow and read back."""

import io
import shutil
import sys
import tarfile

import numpy as np
import pytest

from bifpn_jax.errors import UserError
from bifpn_jax.weights.formats.archive import unpack_checkpoint
from bifpn_jax.weights.formats.tf_checkpoint import (
    find_prefix,
    is_tf_checkpoint,
    read_tf_checkpoint,
)

KERNEL, SCALAR = "efficientnet-b0/stem/conv2d/kernel", "fpn_cells/cell_0/fnode0/WSM"
AVERAGE, MOMENTUM = "/ExponentialMovingAverage", "/Momentum"


def refused(function, *arguments):
    with pytest.raises(UserError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow", reason="needs the extra tensorflow")


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 3, 3, 32)).astype(np.float32)
    average = rng.standard_normal(kernel.shape).astype(np.float32)
    return {
        KERNEL: kernel,
        KERNEL + AVERAGE: average,
        KERNEL + MOMENTUM: np.zeros_like(kernel),
        SCALAR: np.float32(0.75),
        "global_step": np.int64(1234),
    }


def write_by_name(tf, prefix, arrays):
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=[tf.constant(value) for value in arrays.values()],
    )


@pytest.fixture(scope="module")
def written(tf, arrays, tmp_path_factory):
    """A folder with one checkpoint of TensorFlow 1, as it is published."""
    folder = tmp_path_factory.mktemp("by_name") / "efficientdet-d0"
    folder.mkdir()
    write_by_name(tf, folder / "model", arrays)
    (folder / "checkpoint").write_text('model_checkpoint_path: "/home/someone/d0/model"\n')
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """The same, to spoil."""
    return shutil.copytree(written, tmp_path / "copy")


def check_published(read, arrays):
    assert set(read) == {KERNEL, KERNEL + MOMENTUM, SCALAR, "global_step"}
    np.testing.assert_array_equal(read[KERNEL], arrays[KERNEL + AVERAGE])
    np.testing.assert_array_equal(read[SCALAR], arrays[SCALAR])
    assert read["global_step"] == 1234


@pytest.mark.parametrize("what", ["", "model", "model.index", "model.data-00000-of-00001"])
def test_by_name_with_averages_preferred(written, arrays, what):
    assert is_tf_checkpoint(written / what)
    check_published(read_tf_checkpoint(written / what), arrays)


def test_by_object_under_the_names_of_the_variables(tf, tmp_path):
    class Layer(tf.Module):
        def __init__(self, scope):
            super().__init__()
            self.kernel = tf.Variable(tf.random.normal((3, 4)), name=f"{scope}/kernel")
            self.bias = tf.Variable(tf.random.normal((4,)), name=f"{scope}/bias")

    class Net(tf.Module):
        def __init__(self):
            super().__init__()
            self.stem = Layer("efficientnet-b0/stem/conv2d")
            self.heads = [Layer("class_net/class-0"), Layer("class_net/class-1")]

    net = Net()
    prefix = tf.train.Checkpoint(model=net).save(str(tmp_path / "ckpt"))
    for path in (prefix, tmp_path):
        read = read_tf_checkpoint(path)
        assert read.pop("save_counter") == 1
        assert set(read) == {variable.name.removesuffix(":0") for variable in net.variables}
        for variable in net.variables:
            np.testing.assert_array_equal(read[variable.name.removesuffix(":0")], variable)


def test_by_object_with_a_name_twice_keeps_both(tf, tmp_path):
    first, second = (tf.Variable([value], name="bias") for value in (1.0, 2.0))
    prefix = tf.train.Checkpoint(a=first, b=second).write(str(tmp_path / "ckpt"))
    read = read_tf_checkpoint(prefix)
    assert len(read) == 2
    assert sorted(float(value[0]) for value in read.values()) == [1.0, 2.0]


def test_a_folder_with_several(tf, folder, arrays):
    for name in ("model-1", "model-2"):
        write_by_name(tf, folder / name, {SCALAR: np.float32(len(name))})
    check_published(read_tf_checkpoint(folder), arrays)
    (folder / "checkpoint").unlink()
    assert "name one of model, model-1, model-2." in refused(read_tf_checkpoint, folder)


def test_files_cut_short(folder):
    data = folder / "model.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-100])
    assert "incomplete or damaged (its index tells of" in refused(read_tf_checkpoint, folder)
    data.unlink()
    assert "incomplete or damaged" in refused(read_tf_checkpoint, folder)


def test_damaged_files(folder):
    data, index = folder / "model.data-00000-of-00001", folder / "model.index"
    changed = bytearray(data.read_bytes())
    changed[-1] ^= 1
    data.write_bytes(changed)
    assert "incomplete or damaged" in refused(read_tf_checkpoint, folder)
    index.write_bytes(index.read_bytes()[:-20])
    assert "incomplete or damaged" in refused(read_tf_checkpoint, folder)
    index.write_bytes(b"")
    assert "incomplete or damaged" in refused(read_tf_checkpoint, folder)


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz"])
def test_an_archive(written, arrays, tmp_path, suffix):
    path = tmp_path / f"efficientdet-d0{suffix}"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(written, "efficientdet-d0")
    assert is_tf_checkpoint(path)
    check_published(read_tf_checkpoint(path), arrays)


def test_without_tensorflow(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    message = refused(read_tf_checkpoint, tmp_path / "model")
    assert "needs TensorFlow" in message
    assert 'pip install "bifpn_jax[tensorflow]"' in message


# What follows needs no TensorFlow.


def test_names_of_what_is_no_checkpoint(tmp_path):
    assert not is_tf_checkpoint(tmp_path)
    assert not is_tf_checkpoint(tmp_path / "model")
    assert not is_tf_checkpoint(tmp_path / "model.pth")
    assert "no *.index" in refused(find_prefix, tmp_path)
    assert "no such TensorFlow checkpoint" in refused(find_prefix, tmp_path / "model")


def test_a_state_file_that_points_elsewhere(tmp_path):
    (tmp_path / "one.index").touch()
    for content in ('model_checkpoint_path: "/etc/passwd"', 'model_checkpoint_path: ""', "\xff\0"):
        (tmp_path / "checkpoint").write_text(content)
        assert find_prefix(tmp_path) == tmp_path / "one"
    (tmp_path / "two.index").touch()
    (tmp_path / "checkpoint").write_text('all_paths: "two"\nmodel_checkpoint_path: "../two"\n')
    assert find_prefix(tmp_path) == tmp_path / "two"


def make_archive(path, members):
    """members: (name, content or a TarInfo's attributes)."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                for key, value in content.items():
                    setattr(member, key, value)
                archive.addfile(member)
    return path


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "target" / "inner"
    folder.mkdir(parents=True)
    return folder


DATA = "model.data-00000-of-00001"


def test_only_a_checkpoints_own_files_are_written(tmp_path, target):
    path = make_archive(
        tmp_path / "a.tar.gz",
        [
            ("../../escape.index", b"inside"),
            (f"/absolute/{DATA}", b"data" * 100_000),
            ("d0/checkpoint", b"state"),
            ("d0/model.meta", b"graph"),
            ("d0/readme.txt", b"text"),
            ("link.index", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
            ("hard.index", {"type": tarfile.LNKTYPE, "linkname": "d0/checkpoint"}),
            ("device.index", {"type": tarfile.CHRTYPE}),
        ],
    )
    unpack_checkpoint(path, target)
    files = {file.name: file.read_bytes() for file in target.iterdir()}
    assert files == {"escape.index": b"inside", DATA: b"data" * 100_000, "checkpoint": b"state"}
    assert [file.name for file in target.parent.iterdir()] == ["inner"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("d0/notes.txt", b"")], "holds no TensorFlow checkpoint"),
        ([("a/m.index", b"1"), ("b/m.index", b"2")], "two files in it are called m.index"),
        ([("m.index", b"1"), (DATA, bytes(30_000_000))], "absurdly large"),
        ([("m.index", b"1"), ("other", bytes(30_000_000)), (DATA, b"")], "absurdly large"),
        ([("m.index", {"size": 1 << 60})], "absurdly large"),
        ([("notes.txt", b"")] * 1002, "absurdly many"),
        ([("m.index", {"size": -512})], "absurdly large"),
        ([("m.index", b"1"), ("x" * 5_000_000, b"")], "a header in it is absurdly long"),
    ],
)
def test_absurd_archives(tmp_path, target, members, message):
    assert message in refused(unpack_checkpoint, make_archive(tmp_path / "a.tgz", members), target)
    assert sum(file.stat().st_size for file in target.iterdir()) < 2


def test_archives_that_are_none(tmp_path, target):
    path = tmp_path / "a.tar.gz"
    assert "cannot be unpacked" in refused(unpack_checkpoint, path, target)
    for content in (b"", b"<html>", b"\x1f\x8b\x08\0\0\0\0\0\0\0"):
        path.write_bytes(content)
        assert str(path) in refused(unpack_checkpoint, path, target)
    make_archive(path, [("m.index", b"1"), (DATA, np.random.default_rng(0).bytes(300_000))])
    for length in (20, 1000, 200_000):
        cut = tmp_path / "cut.tar.gz"
        cut.write_bytes(path.read_bytes()[:length])
        for file in target.iterdir():
            file.unlink()
        assert "damaged" in refused(unpack_checkpoint, cut, target)
