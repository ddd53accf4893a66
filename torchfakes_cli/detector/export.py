"""A detector as an ONNX file, which other programs run without this one."""

from __future__ import annotations

import importlib
import importlib.util
import json
import tempfile
import warnings
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from torchfakes_cli.detector.checkpoint import HEADER_KEY, Header, load_checkpoint, write_atomically
from torchfakes_cli.detector.network import blank_network, fold_batch_norm, load_weights
from torchfakes_cli.detector.registry import find_checkpoint
from torchfakes_cli.detector.scoring import Detector
from torchfakes_cli.errors import ModelError, OutputError, UsageError

#: ONNX's operator set: known to runtimes since 2022, and all that the network needs.
OPSET = 17
#: Logits may differ by so much between the two runtimes, which add in another order.
TOLERANCE = 1e-3
#: Crops compared; in two batches of different sizes.
COMPARED = 8
LIBRARIES = ("onnx", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export made.

    Attributes:
        path: of the ONNX file.
        input_shape: as a user reads it.
        largest_difference: between the logits of the two runtimes.
        compared: crops that were compared.
    """

    path: Path
    input_shape: str
    largest_difference: float
    compared: int


class _WholeDetector(nn.Module):
    """The network with what comes before and after it, so that nobody has to do that in the same way again."""

    def __init__(self, network: nn.Module, header: Header) -> None:
        super().__init__()
        self.network = network
        self.header = header

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """N×3×S×S RGB from 0 to 255 to N logits and N probabilities."""
        header = self.header
        inputs = (crops - header.mean) / header.scale
        if header.picture_size != header.input_size:
            size = (header.input_size, header.input_size)
            inputs = functional.interpolate(inputs, size=size, mode="bilinear", align_corners=False)
        logits = self.network(inputs).flatten()
        return logits, torch.sigmoid(header.slope * logits + header.intercept)


def export_onnx(model: str | PathLike[str], out: Path, *, force: bool = False) -> Exported:
    """Write a detector as an ONNX file, after comparing it with torch on random crops.

    Its input ``crops`` is N×3×S×S float32, RGB from 0 to 255, N free; its outputs are ``logit`` and ``p_fake``, N each.
    The header stands in the file's metadata.

    Args:
        model: path or name, as ``load_detector`` takes it.
        out: where to.
        force: replace a file.

    Raises:
        UsageError: ONNX's libraries are not installed.
        ModelNotFoundError: there is no such detector.
        CheckpointError: it can't be used.
        ModelError: ONNX's scores are not torch's; nothing is written.
        OutputError: the file is there, or can't be written.
    """
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        advice = "Install them: pip install 'torchfakes[onnx]'."
        raise UsageError(f"an export needs {' and '.join(missing)}", advice=advice)
    if out.is_dir() or (out.exists() and not force):
        cause = "is a folder" if out.is_dir() else "is there already"
        raise OutputError(cause, path=out, advice="Name another file, or use --force.")
    path = find_checkpoint(model)
    state, header = load_checkpoint(path)
    load_weights(network := blank_network(), state, str(path))
    whole = _WholeDetector(fold_batch_norm(network.requires_grad_(False)), header).eval()
    data = _with_header(_converted(whole, header.picture_size), header)
    load_weights(reference := blank_network(), state, str(path))
    difference = _compare(data, Detector(reference, header, torch.device("cpu"), torch.float32))
    if not difference <= TOLERANCE:
        cause = f"ONNX's logits differ from torch's by up to {difference:.2g}, more than {TOLERANCE:g}"
        raise ModelError(cause, path=path, advice="Nothing was written: update torch, onnx and onnxruntime.")
    write_atomically(out, data)
    side = header.picture_size
    return Exported(out, f"N×3×{side}×{side}", difference, COMPARED)


def _converted(whole: nn.Module, side: int) -> bytes:
    names = ["crops", "logit", "p_fake"]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The exporter by tracing needs no more libraries, and there is nothing here that it can't trace.
        warnings.simplefilter("ignore")
        file = Path(folder) / "whole.onnx"
        torch.onnx.export(
            whole,
            (torch.zeros(2, 3, side, side),),
            str(file),
            input_names=names[:1],
            output_names=names[1:],
            dynamic_axes={name: {0: "batch"} for name in names},
            opset_version=OPSET,
            dynamo=False,
        )
        return file.read_bytes()


def _with_header(data: bytes, header: Header) -> bytes:
    onnx: Any = importlib.import_module("onnx")
    model = onnx.load_model_from_string(data)
    onnx.checker.check_model(model)
    onnx.helper.set_model_props(model, {HEADER_KEY: json.dumps(asdict(header), sort_keys=True)})
    return bytes(model.SerializeToString())


def _compare(data: bytes, detector: Detector) -> float:
    """The largest difference between logits; NaN where either gives no numbers."""
    runtime: Any = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    crops = _crops(detector.header.picture_size)
    expected = detector.score(list(crops))
    planes = np.ascontiguousarray(crops.transpose(0, 3, 1, 2), np.float32)
    parts = [session.run(["logit"], {"crops": part})[0] for part in (planes[:1], planes[1:])]
    return float(np.abs(np.concatenate(parts) - expected).max())


def _crops(side: int) -> NDArray[np.uint8]:
    """Smooth random pictures, from dark to bright: noise alone would lie far from all that a network was made for."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (COMPARED, 3, 6, 6)).astype(np.float32))
    smooth = functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False).numpy()
    noisy = smooth * np.linspace(0.4, 1.3, COMPARED)[:, None, None, None] + rng.normal(0, 6, smooth.shape)
    return np.ascontiguousarray(noisy.clip(0, 255).transpose(0, 2, 3, 1), np.uint8)
