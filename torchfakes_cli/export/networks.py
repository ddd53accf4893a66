"""The exported networks (the detector, and MTCNN's three of layers that converters map directly) as ONNX files."""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from torchfakes_cli.detector.checkpoint import Header, load_network
from torchfakes_cli.detector.detector import Detector
from torchfakes_cli.detector.network import fold_batch_norm
from torchfakes_cli.detector.preprocess import relative_logits
from torchfakes_cli.detector.registry import find_checkpoint
from torchfakes_cli.errors import UsageError
from torchfakes_cli.faces.networks import MEAN, SCALE, load_weights

#: Names of the cascade's networks in the order of the stages.
NETWORKS = ("pnet", "rnet", "onet")
#: Outputs of each network: the face logit, the offsets of the face's corners from the window's as shares of the
#: window's side, and for the third network the landmarks in the same unit (five x, then five y).
OUTPUTS = {
    "pnet": ("logit", "offsets"),
    "rnet": ("logit", "offsets"),
    "onet": ("logit", "offsets", "landmarks"),
}
#: Sides of the pooling windows after each convolution, at a stride of two; 0 for no pooling.
_POOLS = {"pnet": (2, 0, 0), "rnet": (3, 3, 0), "onet": (3, 3, 2, 0)}
#: ONNX operator set version: supported by runtimes since 2022 and sufficient for the networks.
OPSET = 17
LIBRARIES = ("onnx", "onnxruntime")
#: Operators that stay in float32: the input normalization, and the sigmoid whose scores are compared with thresholds.
_KEPT_FLOAT = ("Sub", "Div", "Sigmoid")


class WholeDetector(nn.Module):
    """The network with its preprocessing and calibration, so that apps don't have to implement them."""

    def __init__(self, network: nn.Module, header: Header) -> None:
        super().__init__()
        self.network = network
        self.header = header

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Map N×3×S×S RGB crops from 0 to 255 to N logits and N probabilities."""
        header = self.header
        inputs = (crops - header.mean) / header.scale
        if header.picture_size != header.input_size:
            size = (header.input_size, header.input_size)
            inputs = functional.interpolate(inputs, size=size, mode="bilinear", align_corners=False)
        logits = relative_logits(self.network, inputs, header.coarse_weight).squeeze(1)
        return logits, torch.sigmoid(header.slope * logits + header.intercept)


def load_both(model: str | PathLike[str]) -> tuple[WholeDetector, Detector]:
    """Load a detector twice: in its exported form, and as the float32 reference on the CPU."""
    path = find_checkpoint(model)
    (network, header), (reference, _) = load_network(path), load_network(path)
    whole = WholeDetector(fold_batch_norm(network.requires_grad_(False)), header).eval()
    return whole, Detector(reference, header, torch.device("cpu"), torch.float32)


class CascadeNetwork(nn.Module):
    """One of MTCNN's three networks, with the outputs of :mod:`torchfakes_cli.faces.networks`."""

    def __init__(self, name: str) -> None:
        super().__init__()
        weights, self.pools = load_weights(name), _POOLS[name]
        names = [key.removesuffix(".weight") for key in weights if key.endswith(".weight")]
        self.layers = nn.ModuleDict({layer: _layer(weights[f"{layer}.weight"]) for layer in names})
        self.layers.load_state_dict(weights)
        self.heads = [layer for layer in names if "_" in layer]
        self.dense = next((layer for layer in names if layer.startswith("dense")), "")
        self.requires_grad_(False).eval()

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Map N×3×H×W pictures, RGB from 0 to 255, to face logits, offsets and (third network only) landmarks.

        The first network takes any even size and returns N×h×w and N×4×h×w; the others return N, N×4 and N×10.
        """
        layers = self.layers
        features = (pictures - MEAN) / SCALE
        for number, pool in enumerate(self.pools, 1):
            features = layers[f"prelu{number}"](layers[f"conv{number}"](features))
            if pool:
                features = functional.max_pool2d(features, pool, 2, ceil_mode=True)
        if self.dense:
            # facenet-pytorch flattens W×H×C.
            features = layers[self.dense](features.permute(0, 3, 2, 1).flatten(1))
            features = layers[self.dense.replace("dense", "prelu")](features)
        classes, *rest = (layers[head](features) for head in self.heads)
        # softmax([a, b])[1] = sigmoid(b − a)
        return (classes[:, 1] - classes[:, 0], *rest)


def _layer(weight: Tensor) -> nn.Module:
    """Build the layer of a weight: slopes of a PReLU, or the matrix of a dense or convolutional layer."""
    if weight.dim() == 1:
        return nn.PReLU(len(weight))
    if weight.dim() == 2:
        return nn.Linear(weight.shape[1], weight.shape[0])
    return nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2])


def need_libraries() -> None:
    """Raise UsageError unless the ONNX libraries are installed."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        advice = "Install them: pip install 'torchfakes[onnx]'."
        raise UsageError(f"an export needs {' and '.join(missing)}", advice=advice)


def to_onnx(
    module: nn.Module, example: Tensor, taken: str, given: Sequence[str], free: Mapping[str, Mapping[int, str]]
) -> bytes:
    """Convert a module in evaluation mode to a float32 ONNX file.

    Args:
        module: the module.
        example: example input for tracing.
        taken: name of the input.
        given: names of the outputs.
        free: names of the variable-length axes, by input or output name and axis.
    """
    onnx: Any = importlib.import_module("onnx")
    names: dict[str, Any] = {"input_names": [taken], "output_names": list(given), "dynamic_axes": dict(free)}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The tracing exporter needs no further libraries and supports every layer used here.
        warnings.simplefilter("ignore")
        file = Path(folder) / "whole.onnx"
        torch.onnx.export(module, (example,), str(file), opset_version=OPSET, dynamo=False, **names)
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
            batches = ({model.graph.input[0].name: batch} for batch in inputs)
            quantization.quantize_static(
                str(plain),
                str(made),
                SimpleNamespace(get_next=lambda: next(batches, None)),
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
