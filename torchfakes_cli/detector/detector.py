"""Detector: score face crops on a device of this machine, and calibrate the scores."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from torchfakes_cli.detector.calibration import probability
from torchfakes_cli.detector.checkpoint import Header, load_network
from torchfakes_cli.detector.network import fold_batch_norm
from torchfakes_cli.detector.preprocess import relative_logits, to_input
from torchfakes_cli.detector.registry import find_checkpoint
from torchfakes_cli.errors import UsageError

#: Number of crops in a batch of the network. On a CPU larger batches are slower, because their activations don't fit in
#: its caches.
SCORE_BATCH, CPU_SCORE_BATCH = 32, 8


def choose_device(name: str = "auto") -> torch.device:
    """Return the device to compute on.

    Args:
        name: ``auto`` (CUDA if available, otherwise the CPU), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    advice = "Choose auto, cpu, cuda or cuda:N."
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (":" in name and (kind == "cpu" or not number.isdecimal())):
        raise UsageError(f"there is no device called {name!r}", advice=advice)
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError("CUDA is not available on this machine", advice="Leave --device out to use the CPU.")
    if number and int(number) >= torch.cuda.device_count():
        raise UsageError(f"{name} doesn't exist: {torch.cuda.device_count()} CUDA device(s) found", advice=advice)
    return torch.device(name)


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 if the device supports it natively, otherwise float32, because emulation is slow."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if cpu_bf16_instructions() else torch.float32


def cpu_bf16_instructions() -> str:
    """Return the name of the CPU's bfloat16 instructions that oneDNN uses; empty if it would emulate them."""
    # PyTorch builds for Apple's processors lack oneDNN.
    has_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    if not has_onednn or not hasattr(torch.cpu, "get_capabilities"):
        return ""
    capabilities = torch.cpu.get_capabilities()
    return next((name for name in ("amx_bf16", "avx512_bf16", "bf16") if capabilities.get(name)), "")


class Detector:
    """Loaded detector, which scores crops and calibrates the scores.

    Args:
        network: network in evaluation mode; it is modified (batch norm folded, moved, converted).
        header: header of its checkpoint.
        device: device to compute on.
        dtype: type to compute in; None for that of ``fast_dtype``.

    Attributes:
        header: header of the checkpoint.
        device: device that the network runs on.
        dtype: type that the network computes in.
        network: network with folded batch norm.
    """

    def __init__(
        self, network: nn.Module, header: Header, device: torch.device, dtype: torch.dtype | None = None
    ) -> None:
        self.header = header
        self.device = device
        self.dtype = dtype or fast_dtype(device)
        folded = fold_batch_norm(network.eval().requires_grad_(False))
        self.network = folded.to(device, self.dtype).to(memory_format=torch.channels_last)

    @property
    def name(self) -> str:
        """Name of the detector, shown beside every verdict."""
        return self.header.name

    @property
    def precision(self) -> str:
        """Name of the type that the network computes in: ``bfloat16`` or ``float32``."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def margin(self) -> float:
        """Side of the crop that this detector expects, divided by the longer side of the face's box."""
        return self.header.margin

    @property
    def crop_shape(self) -> str:
        """Shape of crops, ``square`` or ``box``."""
        return self.header.crop_shape

    @property
    def fake_above(self) -> float:
        """Smallest probability of the verdict fake."""
        return self.header.fake_above

    @property
    def real_below(self) -> float:
        """Probability below which the verdict is real."""
        return self.header.real_below

    @torch.inference_mode()
    def score(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Score crops.

        Args:
            crops: crops of H×W×3 uint8 RGB, cut with this detector's margin and shape; sizes may differ.

        Returns:
            One float32 logit per crop; positive means fake.
        """
        header, logits = self.header, np.zeros(len(crops), np.float32)
        on_cpu = self.device.type == "cpu"
        start = 0
        while start < len(crops):
            size = CPU_SCORE_BATCH if on_cpu else SCORE_BATCH
            if on_cpu and start + size > len(crops):
                size = 1  # oneDNN keeps memory for each size of a batch
            part = slice(start, start + size)
            batch = to_input(crops[part], header.input_size, header.mean, header.scale, header.crop_size)
            batch = batch.to(self.device, self.dtype, memory_format=torch.channels_last)
            logits[part] = relative_logits(self.network, batch, header.coarse_weight).float().flatten().cpu().numpy()
            start += size
        return logits

    def probability(self, logit: float) -> float:
        """Return the calibrated probability that a face with this logit is synthetic."""
        return probability(logit, self.header.slope, self.header.intercept)


def load_detector(model: str | PathLike[str] | None = None, device: str | torch.device = "auto") -> Detector:
    """Load a detector.

    Args:
        model: path of a checkpoint, or name of one in the models folder; None for the shipped one.
        device: device or its name, as ``choose_device`` takes it.

    Raises:
        ModelNotFoundError: there is no such checkpoint.
        ModelError: the checkpoint can't be used.
        UsageError: there is no such device.
    """
    chosen = device if isinstance(device, torch.device) else choose_device(device)
    network, header = load_network(find_checkpoint(model))
    return Detector(network, header, chosen)


def gives_scores(network: nn.Module, header: Header) -> bool:
    """Return True if a gray crop gets a finite score, because finite weights may still overflow.

    The network can't be used afterwards.
    """
    gray = np.full((header.picture_size, header.picture_size, 3), 128, np.uint8)
    detector = Detector(network, header, torch.device("cpu"), torch.float32)
    return bool(np.isfinite(detector.score([gray])).all())
