"""torchfakes: finds synthetic faces in video.

The public API is loaded when it is first used, so that importing the package costs nothing::

    from torchfakes_cli import scan_video

    result = scan_video("clip.mp4")
    print(result.verdict, result.p_fake)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from torchfakes_cli.version import __version__

if TYPE_CHECKING:
    from torchfakes_cli.detector.checkpoint import Header, load_checkpoint
    from torchfakes_cli.detector.detector import Detector, load_detector
    from torchfakes_cli.errors import DataError, MediaError, ModelError, OutputError, TorchfakesError, UsageError
    from torchfakes_cli.faces.options import FaceConfig
    from torchfakes_cli.records import (
        Explanation,
        Face,
        FaceScore,
        Reason,
        RegionShare,
        Source,
        Status,
        TellingFace,
        Track,
        Verdict,
        VideoInfo,
        VideoResult,
    )
    from torchfakes_cli.report import result_to_json, write_timeline
    from torchfakes_cli.scan.annotate import annotate_video
    from torchfakes_cli.scan.batch import scan_folder, scan_to_table
    from torchfakes_cli.scan.config import ScanConfig, VerdictConfig
    from torchfakes_cli.scan.explain import explain_video
    from torchfakes_cli.scan.pages import write_report
    from torchfakes_cli.scan.scanner import Scanner, scan_video
    from torchfakes_cli.training.config import EvaluateConfig, PrepareConfig, TrainConfig, train_recipe
    from torchfakes_cli.training.crops.prepare import prepare_corpus
    from torchfakes_cli.training.crops.report import PrepareSummary
    from torchfakes_cli.training.evaluate.evaluate import EvaluateSummary, evaluate_detector
    from torchfakes_cli.training.fit.train import TrainSummary, train_detector
    from torchfakes_cli.video.options import SamplingConfig

_HOME = {
    "EvaluateConfig": "training.config",
    "FaceConfig": "faces.options",
    "PrepareConfig": "training.config",
    "SamplingConfig": "video.options",
    "ScanConfig": "scan.config",
    "TrainConfig": "training.config",
    "VerdictConfig": "scan.config",
    "train_recipe": "training.config",
    "Header": "detector.checkpoint",
    "load_checkpoint": "detector.checkpoint",
    "Detector": "detector.detector",
    "load_detector": "detector.detector",
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
    "Source": "records",
    "Status": "records",
    "TellingFace": "records",
    "Track": "records",
    "Verdict": "records",
    "VideoInfo": "records",
    "VideoResult": "records",
    "result_to_json": "report",
    "write_timeline": "report",
    "annotate_video": "scan.annotate",
    "scan_folder": "scan.batch",
    "scan_to_table": "scan.batch",
    "explain_video": "scan.explain",
    "write_report": "scan.pages",
    "Scanner": "scan.scanner",
    "scan_video": "scan.scanner",
    "prepare_corpus": "training.crops.prepare",
    "PrepareSummary": "training.crops.report",
    "EvaluateSummary": "training.evaluate.evaluate",
    "evaluate_detector": "training.evaluate.evaluate",
    "TrainSummary": "training.fit.train",
    "train_detector": "training.fit.train",
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
    "Source",
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
