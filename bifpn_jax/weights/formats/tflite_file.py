"""Reads the convolutions in a TensorFlow Lite file, in execution order, as float32.

Only their constants are read: kernels and biases of any stored type (float32, float16, int8 or
uint8 with one scale per tensor or per channel, int32 biases). Needs the small package `tflite`, the
schema of the format, but not TensorFlow.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from bifpn_jax.errors import UserError

MAGIC = b"TFL3"  # at byte 4

# Raised by the schema's accessors on invalid bytes: they check nothing themselves.
_DAMAGE = (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError)


class Convolution(NamedTuple):
    """One convolution of the graph.

    Attributes:
        name: name of its kernel; several joined with ";" if the converter merged operations.
        depthwise: whether it has one filter per channel.
        input_hw: height and width of its input.
        kernel: [kh, kw, in, out], or [kh, kw, C, 1] if depthwise.
        bias: [out].
    """

    name: str
    depthwise: bool
    input_hw: tuple[int, int]
    kernel: np.ndarray
    bias: np.ndarray


def read_convolutions(path: str | Path) -> list[Convolution]:
    """Read all convolutions of the file's first graph.

    Raises:
        UserError: the file cannot be read, is not a TensorFlow Lite file, is damaged, or `tflite`
            is not installed.
    """
    try:
        import tflite
    except ImportError:
        raise UserError(
            f"{path}: reading a .tflite file needs the package tflite; install it with "
            'pip install "bifpn_jax[tflite]".'
        ) from None
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give another file.") from error
    if data[4:8] != MAGIC:
        raise UserError(f"{path} is not a TensorFlow Lite file; give one that ends in .tflite.")
    try:
        return list(_convolutions(tflite, data))
    except _DAMAGE as error:
        raise UserError(
            f"{path}: the file is damaged or cut short ({error or type(error).__name__}); get it "
            "again."
        ) from error


def _convolutions(tflite: ModuleType, data: bytes) -> Iterator[Convolution]:
    model = tflite.Model.GetRootAsModel(data, 0)
    graph = model.Subgraphs(0)
    constants = _Constants(tflite, model, graph, len(data))
    kinds = tflite.BuiltinOperator
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        code = model.OperatorCodes(operator.OpcodeIndex())
        # Codes below 127 are in the older field, in the newer one, or in both.
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        inputs = operator.InputsAsNumpy()
        if kind == kinds.DEQUANTIZE:
            constants.pass_on(inputs[0], operator.OutputsAsNumpy()[0])
        if kind not in (kinds.CONV_2D, kinds.DEPTHWISE_CONV_2D):
            continue
        depthwise = kind == kinds.DEPTHWISE_CONV_2D
        kernel = constants.array(inputs[1])
        # OHWI, or 1HWC if depthwise.
        kernel = kernel.transpose((1, 2, 3, 0))
        out = kernel.shape[2] if depthwise else kernel.shape[3]
        bias = constants.array(inputs[2]) if len(inputs) > 2 else np.zeros(out, np.float32)
        if bias.shape != (out,):
            raise ValueError(f"{out} channels with a bias of shape {bias.shape}")
        height, width = graph.Tensors(inputs[0]).ShapeAsNumpy()[1:3]
        name = graph.Tensors(inputs[1]).Name().decode()
        yield Convolution(name, depthwise, (int(height), int(width)), kernel, bias)


class _Constants:
    """Constant tensors of a graph as float32, each decoded once.

    Together they may contain at most as many numbers as the file has bytes, so that a small file
    cannot use a lot of memory by naming the same bytes repeatedly.
    """

    def __init__(self, tflite: ModuleType, model: Any, graph: Any, file_size: int) -> None:
        self._model, self._graph, self._left = model, graph, file_size
        types = tflite.TensorType
        self._dtypes = {
            types.FLOAT32: np.dtype("<f4"),
            types.FLOAT16: np.dtype("<f2"),
            types.INT32: np.dtype("<i4"),
            types.INT8: np.dtype("i1"),
            types.UINT8: np.dtype("u1"),
        }
        self._arrays: dict[int, np.ndarray] = {}
        self._source: dict[int, int] = {}

    def pass_on(self, source: int, output: int) -> None:
        """Record that the graph itself dequantises one tensor into another."""
        self._source[int(output)] = int(source)

    def array(self, index: int) -> np.ndarray:
        """Return the tensor at an index, dequantised."""
        index = self._source.get(int(index), int(index))
        if index not in self._arrays:
            self._arrays[index] = self._decode(index)
        return self._arrays[index]

    def _decode(self, index: int) -> np.ndarray:
        tensor = self._graph.Tensors(index)
        if tensor.Type() not in self._dtypes:
            raise ValueError(f"a constant of the type number {tensor.Type()}")
        buffer = self._model.Buffers(tensor.Buffer())
        if not buffer.DataLength():
            raise ValueError("a kernel or bias that is not a constant")
        values = buffer.DataAsNumpy().view(self._dtypes[tensor.Type()])
        self._left -= values.size
        if self._left < 0:
            raise ValueError("its constants are larger than the file")
        values = values.reshape(tensor.ShapeAsNumpy()).astype(np.float32)
        quantization = tensor.Quantization()
        if quantization is None or not quantization.ScaleLength():
            return values
        per_channel = [1] * values.ndim
        per_channel[quantization.QuantizedDimension()] = -1
        scale = np.asarray(quantization.ScaleAsNumpy(), np.float32).reshape(per_channel)
        if quantization.ZeroPointLength():
            values -= quantization.ZeroPointAsNumpy().astype(np.float32).reshape(per_channel)
        return values * scale
