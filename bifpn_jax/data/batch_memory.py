"""The images of batches in the making, each where its batch will have it: nothing is stacked.

Memory is used again when nobody holds a batch any more. From the system it would come page by page
and filled with zeros, which can take as long as to augment the images.
"""

import math
import threading
import weakref
from collections import deque
from collections.abc import Sequence

import numpy as np

_SPARE = 2  # batches' worth of memory that is kept for the next ones


# 2-9 % more images/s than with np.stack, 6-8 % less CPU time: python -m experiments.benchmark input
class BatchMemory:
    """Memory for batches of ``rows`` images, given out image by image to several threads.

    A batch lives as long as anything refers to it or to one of its images. One that is abandoned
    half-way, because the position was changed, goes the same way as one that was used. Whoever
    makes an image a second time meanwhile must make the same one.
    """

    def __init__(self, rows: int, shape: tuple[int, ...]) -> None:
        """Give room for ``rows`` images of a ``shape`` in each batch."""
        self._shape = (rows, *shape)
        self._lock = threading.Lock()
        self._spare: deque[bytearray] = deque(maxlen=_SPARE)
        self._unfinished: weakref.WeakValueDictionary[int, np.ndarray] = (
            weakref.WeakValueDictionary()
        )

    def image(self, index: int) -> np.ndarray:
        """Return the place of image ``index``, counted over all batches: uint8 of any content."""
        number, row = divmod(index, self._shape[0])
        with self._lock:
            batch = self._unfinished.get(number)
            if batch is None:
                batch = self._unfinished[number] = self._allocate()
        return batch[row]

    def batch(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return consecutive images [rows, *shape], copied only if they are of two batches.

        The memory is the caller's from then on: who makes these images again gets other memory.
        """
        batch = images[0].base
        if len(images) != self._shape[0] or any(image.base is not batch for image in images):
            return np.stack(images)
        with self._lock:
            for number, unfinished in list(self._unfinished.items()):
                if unfinished is batch:
                    del self._unfinished[number]
        return batch

    def _allocate(self) -> np.ndarray:
        try:
            memory = self._spare.pop()
        except IndexError:
            memory = bytearray(math.prod(self._shape))
        # An array of an array would let its views refer past it to the memory, and not keep it.
        batch = np.ndarray(self._shape, np.uint8, buffer=memory)
        weakref.finalize(batch, self._spare.append, memory).atexit = False
        return batch
