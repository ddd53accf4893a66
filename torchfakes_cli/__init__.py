"""torchfakes: finds synthetic faces in video.

The public API is loaded when it is first used, so that importing the package costs nothing::

    from torchfakes_cli import scan_video

    result = scan_video("clip.mp4")
    print(result.verdict, result.p_fake)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchfakes_cli.config import EvaluateConfig, FaceConfig, SamplingConfig, ScanConfig, VerdictConfig
    from torchfakes_cli.errors import TorchfakesError
    from torchfakes_cli.records import (
        Explanation,
        Face,
        FaceScore,
        Reason,
        RegionShare,
        Status,
        TellingFace,
        Track,
        Verdict,
        VideoInfo,
        VideoResult,
    )
    from torchfakes_cli.scan import annotate_video, explain_video, scan_folder, scan_video
    from torchfakes_cli.training import evaluate_detector, prepare_corpus, train_detector

__version__ = "0.1.0"

_HOME = {
    "EvaluateConfig": "config",
    "FaceConfig": "config",
    "SamplingConfig": "config",
    "ScanConfig": "config",
    "VerdictConfig": "config",
    "TorchfakesError": "errors",
    "Explanation": "records",
    "Face": "records",
    "FaceScore": "records",
    "Reason": "records",
    "RegionShare": "records",
    "Status": "records",
    "TellingFace": "records",
    "Track": "records",
    "Verdict": "records",
    "VideoInfo": "records",
    "VideoResult": "records",
    "annotate_video": "scan",
    "explain_video": "scan",
    "scan_folder": "scan",
    "scan_video": "scan",
    "evaluate_detector": "training",
    "prepare_corpus": "training",
    "train_detector": "training",
}

__all__ = [
    "EvaluateConfig",
    "Explanation",
    "Face",
    "FaceConfig",
    "FaceScore",
    "Reason",
    "RegionShare",
    "SamplingConfig",
    "ScanConfig",
    "Status",
    "TellingFace",
    "TorchfakesError",
    "Track",
    "Verdict",
    "VerdictConfig",
    "VideoInfo",
    "VideoResult",
    "__version__",
    "annotate_video",
    "evaluate_detector",
    "explain_video",
    "prepare_corpus",
    "scan_folder",
    "scan_video",
    "train_detector",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
