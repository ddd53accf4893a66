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
    from torchfakes_cli.config import (
        EvaluateConfig,
        FaceConfig,
        PrepareConfig,
        SamplingConfig,
        ScanConfig,
        TrainConfig,
        VerdictConfig,
        train_recipe,
    )
    from torchfakes_cli.detector import Detector, Header, load_checkpoint, load_detector
    from torchfakes_cli.errors import DataError, MediaError, ModelError, OutputError, TorchfakesError, UsageError
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
    from torchfakes_cli.report import result_to_json, write_timeline
    from torchfakes_cli.scan import (
        Scanner,
        annotate_video,
        explain_video,
        scan_folder,
        scan_to_table,
        scan_video,
        write_report,
    )
    from torchfakes_cli.training import (
        EvaluateSummary,
        PrepareSummary,
        TrainSummary,
        evaluate_detector,
        prepare_corpus,
        train_detector,
    )

__version__ = "0.1.0"

_HOME = {
    "EvaluateConfig": "config",
    "FaceConfig": "config",
    "PrepareConfig": "config",
    "SamplingConfig": "config",
    "ScanConfig": "config",
    "TrainConfig": "config",
    "VerdictConfig": "config",
    "train_recipe": "config",
    "Detector": "detector",
    "Header": "detector",
    "load_checkpoint": "detector",
    "load_detector": "detector",
    "DataError": "errors",
    "MediaError": "errors",
    "ModelError": "errors",
    "OutputError": "errors",
    "TorchfakesError": "errors",
    "UsageError": "errors",
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
    "result_to_json": "report",
    "write_timeline": "report",
    "Scanner": "scan",
    "annotate_video": "scan",
    "explain_video": "scan",
    "scan_folder": "scan",
    "scan_to_table": "scan",
    "scan_video": "scan",
    "write_report": "scan",
    "EvaluateSummary": "training",
    "PrepareSummary": "training",
    "TrainSummary": "training",
    "evaluate_detector": "training",
    "prepare_corpus": "training",
    "train_detector": "training",
}

__all__ = [
    "DataError",
    "Detector",
    "EvaluateConfig",
    "EvaluateSummary",
    "Explanation",
    "Face",
    "FaceConfig",
    "FaceScore",
    "Header",
    "MediaError",
    "ModelError",
    "OutputError",
    "PrepareConfig",
    "PrepareSummary",
    "Reason",
    "RegionShare",
    "SamplingConfig",
    "ScanConfig",
    "Scanner",
    "Status",
    "TellingFace",
    "TorchfakesError",
    "Track",
    "TrainConfig",
    "TrainSummary",
    "UsageError",
    "Verdict",
    "VerdictConfig",
    "VideoInfo",
    "VideoResult",
    "__version__",
    "annotate_video",
    "evaluate_detector",
    "explain_video",
    "load_checkpoint",
    "load_detector",
    "prepare_corpus",
    "result_to_json",
    "scan_folder",
    "scan_to_table",
    "scan_video",
    "train_detector",
    "train_recipe",
    "write_report",
    "write_timeline",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
