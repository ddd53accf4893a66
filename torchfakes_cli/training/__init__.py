"""From a corpus to a detector: crops, training, evaluation. Loaded when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchfakes_cli.training.prepare import PrepareSummary, prepare_corpus
    from torchfakes_cli.training.state import STATE, saved_config
    from torchfakes_cli.training.train import train_detector

_HOME = {
    "PrepareSummary": "prepare",
    "prepare_corpus": "prepare",
    "STATE": "state",
    "saved_config": "state",
    "train_detector": "train",
}

__all__ = ["STATE", "PrepareSummary", "prepare_corpus", "saved_config", "train_detector"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
