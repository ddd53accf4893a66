"""Conversion of torch modules to ONNX files in float32, float16 or int8."""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from torchfakes_cli.errors import UsageError

#: ONNX operator set version: supported by runtimes since 2022 and sufficient for the networks.
OPSET = 17
LIBRARIES = ("onnx", "onnxruntime")
#: Operators that stay in float32: the input normalization, and the sigmoid whose scores are compared with thresholds.
_KEPT_FLOAT = ("Sub", "Div", "Sigmoid")


def need_libraries() -> None:
    """Check that the ONNX libraries are installed.

    Raises:
        UsageError: a library isn't installed.
    """
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        advice = "Install them: pip install 'torchfakes[onnx]'."
        raise UsageError(f"an export needs {' and '.join(missing)}", advice=advice)


def to_onnx(
    module: nn.Module, example: Tensor, taken: str, given: Sequence[str], free: Mapping[str, Mapping[int, str]]
) -> bytes:
    """Convert a module to a float32 ONNX file.

    Args:
        module: module in evaluation mode.
        example: example input for tracing.
        taken: name of the input.
        given: names of the outputs.
        free: names of the variable-length axes, by input or output name and axis.
    """
    onnx: Any = importlib.import_module("onnx")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The tracing exporter needs no further libraries and supports every layer used here.
        warnings.simplefilter("ignore")
        file = Path(folder) / "whole.onnx"
        torch.onnx.export(
            module,
            (example,),
            str(file),
            input_names=[taken],
            output_names=list(given),
            dynamic_axes=dict(free),
            opset_version=OPSET,
            dynamo=False,
        )
        data = file.read_bytes()
    onnx.checker.check_model(onnx.load_model_from_string(data))
    return data


def planes(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Convert pictures of one size to the files' input: N×3×H×W float32, RGB from 0 to 255."""
    return np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2), np.float32)


def to_half(data: bytes) -> bytes:
    """Convert a float32 file to float16 weights and layers; inputs and outputs stay float32.

    Uses ONNX Runtime's converter, because onnxconverter-common, its origin, is barely maintained.
    """
    onnx: Any = importlib.import_module("onnx")
    float16: Any = importlib.import_module("onnxruntime.transformers.float16")
    graphs: Any = importlib.import_module("onnxruntime.transformers.onnx_model")
    blocked = [*float16.DEFAULT_OP_BLOCK_LIST, *_KEPT_FLOAT]
    with warnings.catch_warnings():
        # Weights too small for float16 become its smallest number; the parity check measures the effect.
        warnings.simplefilter("ignore")
        half = float16.convert_float_to_float16(
            onnx.load_model_from_string(data), keep_io_types=True, op_block_list=blocked
        )
    # The converter appends casts at the end of the graph; ONNX requires topological order.
    graphs.OnnxModel.graph_topological_sort(half.graph, is_deterministic=True)
    onnx.checker.check_model(half)
    return bytes(half.SerializeToString())


def to_int8(data: bytes, inputs: Iterable[NDArray[np.float32]] | None) -> bytes:
    """Convert a float32 file to int8, with weights quantized per channel and quantized activations.

    The last layer and the operators after it stay float32. The settings follow ONNX Runtime's advice for convolutions
    on a CPU: signed weights, unsigned activations, activation ranges from calibration.

    Args:
        data: content of the float32 file.
        inputs: calibration batches; None quantizes activations dynamically, which makes the file as small but not as
            fast.
    """
    quantization: Any = importlib.import_module("onnxruntime.quantization")
    onnx: Any = importlib.import_module("onnx")
    with tempfile.TemporaryDirectory() as folder:
        plain, made = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        # Folds constants and layers, which leaves fewer roundings.
        quantization.quant_pre_process(
            onnx.load_model_from_string(data), str(plain), skip_symbolic_shape=True, verbose=0
        )
        model = onnx.load(str(plain))
        options = {"per_channel": True, "nodes_to_exclude": _tail(model)}
        if inputs is None:
            # ONNX Runtime's dynamic integer convolutions support only unsigned weights.
            quantization.quantize_dynamic(str(plain), str(made), weight_type=quantization.QuantType.QUInt8, **options)
        else:
            taken = model.graph.input[0].name
            quantization.quantize_static(
                str(plain),
                str(made),
                _Batches(taken, inputs),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                **options,
            )
        return made.read_bytes()


def with_property(data: bytes, name: str, text: str) -> bytes:
    """Return the file with a property added to its metadata."""
    onnx: Any = importlib.import_module("onnx")
    model = onnx.load_model_from_string(data)
    onnx.helper.set_model_props(model, {name: text})
    return bytes(model.SerializeToString())


def session(data: bytes, threads: int) -> Any:
    """Create an inference session on the CPU with the given number of threads."""
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    # Idle threads release their core instead of spinning.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _tail(model: Any) -> list[str]:
    """Return the names of the output nodes: from each last node with weights to the outputs."""
    nodes = list(model.graph.node)
    makers = {name: node for node in nodes for name in node.output}
    waiting = [makers[output.name] for output in model.graph.output if output.name in makers]
    tail: dict[str, None] = {}
    while waiting:
        node = waiting.pop()
        tail[node.name] = None
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            waiting += [makers[name] for name in node.input if name in makers]
    return list(tail)


class _Batches:
    """Calibration data reader for ONNX Runtime: returns one batch per call, and None at the end."""

    def __init__(self, taken: str, inputs: Iterable[NDArray[np.float32]]) -> None:
        self._taken = taken
        self._inputs = iter(inputs)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._inputs, None)
        return None if batch is None else {self._taken: batch}
