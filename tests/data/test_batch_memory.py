from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from bifpn_jax.data import batch_memory
from bifpn_jax.data.batch_memory import BatchMemory


@pytest.fixture
def memory():
    return BatchMemory(3, (2, 4))


@pytest.fixture
def allocations(monkeypatch):
    """The sizes of all that is taken from the system."""
    taken = []

    def counted(size):
        taken.append(size)
        return bytearray(size)

    monkeypatch.setattr(batch_memory, "bytearray", counted, raising=False)
    return taken


def fill(memory, indices):
    images = [memory.image(index) for index in indices]
    for index, image in zip(indices, images, strict=True):
        image[:] = index % 256
    return images


def test_images_are_made_where_their_batch_has_them(memory):
    images = fill(memory, [4, 3, 5])
    batch = memory.batch([images[1], images[0], images[2]])
    assert batch.shape == (3, 2, 4)
    assert batch[:, 0, 0].tolist() == [3, 4, 5]
    assert all(np.shares_memory(batch[row], images[i]) for row, i in enumerate([1, 0, 2]))


def test_images_of_two_batches_are_copied(memory):
    images = fill(memory, [1, 2, 3])
    batch = memory.batch(images)
    assert batch[:, 1, 3].tolist() == [1, 2, 3]
    assert not np.shares_memory(batch, images[0])


def test_a_finished_batch_is_not_written_again(memory):
    batch = memory.batch(fill(memory, [0, 1, 2]))
    again = fill(memory, [0])[0]
    assert not np.shares_memory(batch, again)
    unfinished = memory.image(1)
    assert unfinished.base is again.base


def test_memory_comes_back_with_the_last_reference(memory, allocations):
    batch = memory.batch(fill(memory, [0, 1, 2]))
    part = batch.reshape(3, 8)[1:2]
    del batch
    other = memory.batch(fill(memory, [3, 4, 5]))
    assert part.tolist() == [[1] * 8]
    assert len(allocations) == 2
    del part
    images = fill(memory, [6])
    assert len(allocations) == 2
    assert other[:, 0, 0].tolist() == [3, 4, 5]
    images += fill(memory, [9])
    assert len(allocations) == 3


def test_device_arrays_keep_what_they_were_made_of():
    """On a CPU jax takes over aligned memory without a copy."""
    memory = BatchMemory(3, (64, 64))
    on_device = []
    for start in range(0, 60, 3):
        batch = memory.batch(fill(memory, range(start, start + 3)))
        on_device.append(jax.device_put(batch.reshape(1, *batch.shape)))
        del batch
    for start, array in zip(range(0, 60, 3), on_device, strict=True):
        assert np.asarray(array)[0, :, 5, 6].tolist() == [start, start + 1, start + 2]


def test_an_abandoned_batch_gives_its_memory_back(memory, allocations):
    for index in (0, 3, 6, 9):
        fill(memory, [index])
    assert len(allocations) == 1


def test_little_is_kept_of_many_batches(memory, allocations):
    held = fill(memory, range(0, 30, 3))
    assert len(allocations) == 10
    held.clear()
    held += fill(memory, range(30, 60, 3))
    assert len(allocations) == 20 - batch_memory._SPARE


def test_threads_share_a_batch():
    memory = BatchMemory(64, (8,))
    with ThreadPoolExecutor(8) as pool:
        for start in range(0, 64 * 20, 64):
            indices = range(start, start + 64)
            images = list(pool.map(lambda index: fill(memory, [index])[0], indices))
            batch = memory.batch(images)
            assert all(image.base is batch for image in images)
            assert (batch == (np.array(indices) % 256)[:, None]).all()
