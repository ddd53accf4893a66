"""From a corpus to a detector: crops, training, evaluation. Loaded when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchfakes_cli.training.evaluate import EvaluateSummary, evaluate_detector
    from torchfakes_cli.training.prepare import prepare_corpus
    from torchfakes_cli.training.state import STATE, saved_config
    from torchfakes_cli.training.summary import PrepareSummary
    from torchfakes_cli.training.train import train_detector

_HOME = {
    "EvaluateSummary": "evaluate",
    "PrepareSummary": "summary",
    "STATE": "state",
    "evaluate_detector": "evaluate",
    "prepare_corpus": "prepare",
    "saved_config": "state",
    "train_detector": "train",
}

__all__ = [
    "STATE",
    "EvaluateSummary",
    "PrepareSummary",
    "evaluate_detector",
    "prepare_corpus",
    "saved_config",
    "train_detector",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
