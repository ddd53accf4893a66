"""From a corpus to a detector: ``corpora``, ``crops``, ``fit`` and ``evaluate``, one package a step.

The names of this package are loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchfakes_cli.training.crops.prepare import prepare_corpus
    from torchfakes_cli.training.crops.report import PrepareSummary
    from torchfakes_cli.training.evaluate.evaluate import EvaluateSummary, evaluate_detector
    from torchfakes_cli.training.fit.state import STATE, saved_config
    from torchfakes_cli.training.fit.summary import TrainSummary
    from torchfakes_cli.training.fit.train import train_detector

_HOME = {
    "EvaluateSummary": "evaluate.evaluate",
    "PrepareSummary": "crops.report",
    "STATE": "fit.state",
    "TrainSummary": "fit.summary",
    "evaluate_detector": "evaluate.evaluate",
    "prepare_corpus": "crops.prepare",
    "saved_config": "fit.state",
    "train_detector": "fit.train",
}

__all__ = [
    "STATE",
    "EvaluateSummary",
    "PrepareSummary",
    "TrainSummary",
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
