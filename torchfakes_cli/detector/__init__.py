"""From crops to calibrated probabilities: network, preprocessing, checkpoints, scoring.

Names are loaded when first used, so that importing the room doesn't import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchfakes_cli.detector.checkpoint import Header, load_checkpoint, save_checkpoint
    from torchfakes_cli.detector.heat import HeatMaps, load_heat_maps
    from torchfakes_cli.detector.imports import import_weights
    from torchfakes_cli.detector.scoring import Detector, choose_device, load_detector
    from torchfakes_cli.detector.sources import fetch_detector
    from torchfakes_cli.detector.verify import verify_detector

_HOME = {
    "Detector": "scoring",
    "Header": "checkpoint",
    "HeatMaps": "heat",
    "choose_device": "scoring",
    "fetch_detector": "sources",
    "import_weights": "imports",
    "load_checkpoint": "checkpoint",
    "load_detector": "scoring",
    "load_heat_maps": "heat",
    "save_checkpoint": "checkpoint",
    "verify_detector": "verify",
}

__all__ = [
    "Detector",
    "Header",
    "HeatMaps",
    "choose_device",
    "fetch_detector",
    "import_weights",
    "load_checkpoint",
    "load_detector",
    "load_heat_maps",
    "save_checkpoint",
    "verify_detector",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
