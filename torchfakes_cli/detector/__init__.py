"""From crops to calibrated probabilities: networks, preprocessing, checkpoints, scoring.

Names are loaded when first used, so that importing this package doesn't import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchfakes_cli.detector.checkpoint import Header, load_checkpoint, save_checkpoint
    from torchfakes_cli.detector.detector import Detector, choose_device, load_detector
    from torchfakes_cli.detector.download import fetch_detector
    from torchfakes_cli.detector.gradcam import GradCam, load_gradcam
    from torchfakes_cli.detector.registry import verify_detector

_HOME = {
    "Detector": "detector",
    "Header": "checkpoint",
    "GradCam": "gradcam",
    "choose_device": "detector",
    "fetch_detector": "download",
    "load_checkpoint": "checkpoint",
    "load_detector": "detector",
    "load_gradcam": "gradcam",
    "save_checkpoint": "checkpoint",
    "verify_detector": "registry",
}

__all__ = [
    "Detector",
    "GradCam",
    "Header",
    "choose_device",
    "fetch_detector",
    "load_checkpoint",
    "load_detector",
    "load_gradcam",
    "save_checkpoint",
    "verify_detector",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
