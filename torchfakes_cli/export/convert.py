"""From a module of torch to an ONNX file's bytes in float32, float16 or int8."""

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

#: ONNX's operator set: known to runtimes since 2022, and all that the networks need.
OPSET = 17
LIBRARIES = ("onnx", "onnxruntime")
#: Layers that stay in float32: they bring 0 to 255 to the network's range, and the last one's scores are compared with
#: thresholds.
_KEPT_FLOAT = ("Sub", "Div", "Sigmoid")


def need_libraries() -> None:
    """Make sure that ONNX can be written and run.

    Raises:
        UsageError: a library is not installed.
    """
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        advice = "Install them: pip install 'torchfakes[onnx]'."
        raise UsageError(f"an export needs {' and '.join(missing)}", advice=advice)


def to_onnx(
    module: nn.Module, example: Tensor, taken: str, given: Sequence[str], free: Mapping[str, Mapping[int, str]]
) -> bytes:
    """Convert to float32.

    Args:
        module: in evaluation mode.
        example: an input.
        taken: name of the input.
        given: names of the outputs.
        free: for each of them the axes whose length may change, with a name.
    """
    onnx: Any = importlib.import_module("onnx")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The exporter by tracing needs no more libraries, and there is nothing here that it can't trace.
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


def to_half(data: bytes) -> bytes:
    """Convert a float32 file: weights and layers in float16, inputs and outputs as they were.

    By ONNX Runtime's own converter; that of onnxconverter-common, which it grew from, is hardly kept up any more.
    """
    onnx: Any = importlib.import_module("onnx")
    float16: Any = importlib.import_module("onnxruntime.transformers.float16")
    graphs: Any = importlib.import_module("onnxruntime.transformers.onnx_model")
    blocked = [*float16.DEFAULT_OP_BLOCK_LIST, *_KEPT_FLOAT]
    with warnings.catch_warnings():
        # Weights too small for float16 become its smallest number; whether that matters is measured.
        warnings.simplefilter("ignore")
        half = float16.convert_float_to_float16(
            onnx.load_model_from_string(data), keep_io_types=True, op_block_list=blocked
        )
    # It adds casts at the end, wherever they belong.
    graphs.OnnxModel.graph_topological_sort(half.graph, is_deterministic=True)
    onnx.checker.check_model(half)
    return bytes(half.SerializeToString())


def to_int8(data: bytes, inputs: Iterable[NDArray[np.float32]] | None) -> bytes:
    """Convert a float32 file: weights to eight bits, channel by channel, and what flows between the layers as well.

    The last layer and what follows it stay float32. As ONNX Runtime advises for convolutions on a CPU: signed weights,
    unsigned activations, the range of each activation that of the calibration.

    Args:
        data: the file.
        inputs: batches to calibrate with; None quantises activations as they come, which makes the file small too, but
            not fast.
    """
    quantization: Any = importlib.import_module("onnxruntime.quantization")
    onnx: Any = importlib.import_module("onnx")
    with tempfile.TemporaryDirectory() as folder:
        plain, made = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        # Folds what can be folded, so that there is less to be rounded.
        quantization.quant_pre_process(
            onnx.load_model_from_string(data), str(plain), skip_symbolic_shape=True, verbose=0
        )
        model = onnx.load(str(plain))
        options = {"per_channel": True, "nodes_to_exclude": _tail(model)}
        if inputs is None:
            # ONNX Runtime computes integer convolutions with unsigned weights alone.
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
    """The file with something said in its metadata."""
    onnx: Any = importlib.import_module("onnx")
    model = onnx.load_model_from_string(data)
    onnx.helper.set_model_props(model, {name: text})
    return bytes(model.SerializeToString())


def session(data: bytes, threads: int) -> Any:
    """A file ready to run on the CPU with so many threads."""
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    # Waiting threads leave the core to others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _tail(model: Any) -> list[str]:
    """Names of the layers that make the outputs: those from the last with weights on."""
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
    """What ONNX Runtime asks for calibration data: an input at a time, and None at the end."""

    def __init__(self, taken: str, inputs: Iterable[NDArray[np.float32]]) -> None:
        self._taken = taken
        self._inputs = iter(inputs)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._inputs, None)
        return None if batch is None else {self._taken: batch}
