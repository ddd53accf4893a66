"""Names of the public API and where they are defined; ``__init__.py`` imports each of them on first use."""

from .detector.checkpoint import Header, load_checkpoint
from .detector.detector import Detector, load_detector
from .errors import DataError, MediaError, ModelError, OutputError, TorchfakesError, UsageError
from .faces.options import FaceConfig
from .records import Face, FaceScore, Reason, Source, Status, Track, Verdict, VideoInfo, VideoResult
from .report import result_to_json, write_timeline
from .report.heat_maps import Explanation, RegionShare, TellingFace
from .scan.annotate import annotate_video
from .scan.batch import scan_folder, scan_to_table
from .scan.config import ScanConfig, VerdictConfig
from .scan.explain import explain_video
from .scan.pages import write_report
from .scan.scanner import Scanner, scan_video
from .training.config import EvaluateConfig, PrepareConfig, TrainConfig, train_recipe
from .training.crops.prepare import prepare_corpus
from .training.crops.report import PrepareSummary
from .training.evaluate.evaluate import EvaluateSummary, evaluate_detector
from .training.fit.train import TrainSummary, train_detector
from .version import __version__
from .video.options import SamplingConfig

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
