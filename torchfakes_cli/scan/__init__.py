"""From a video file to a verdict: the pipeline of one video, the policy, and many files in a row.

Names are loaded when first used, so that importing the room, or its policy alone, stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchfakes_cli.scan.annotate import annotate_video
    from torchfakes_cli.scan.batch import Batch, scan_files, scan_folder, scan_to_table, settings_digest, stamp_of
    from torchfakes_cli.scan.discovery import Finds, find_videos
    from torchfakes_cli.scan.evidence import gather_evidence, telling_rows
    from torchfakes_cli.scan.explain import explain_video, explain_with
    from torchfakes_cli.scan.flow import failed
    from torchfakes_cli.scan.output_paths import (
        explanation_folder,
        mirrored_paths,
        report_path,
        timeline_paths,
    )
    from torchfakes_cli.scan.pages import Pages, check_pages, write_report
    from torchfakes_cli.scan.pipeline import Progress, Scanner, scan_video
    from torchfakes_cli.scan.ray_backend import on_ray
    from torchfakes_cli.scan.verdict import Policy
    from torchfakes_cli.scan.workers import on_devices

_HOME = {
    "Batch": "batch",
    "Finds": "discovery",
    "Pages": "pages",
    "Policy": "verdict",
    "Progress": "pipeline",
    "Scanner": "pipeline",
    "annotate_video": "annotate",
    "check_pages": "pages",
    "explain_video": "explain",
    "explain_with": "explain",
    "explanation_folder": "output_paths",
    "failed": "flow",
    "find_videos": "discovery",
    "gather_evidence": "evidence",
    "mirrored_paths": "output_paths",
    "on_devices": "workers",
    "on_ray": "ray_backend",
    "report_path": "output_paths",
    "scan_files": "batch",
    "scan_folder": "batch",
    "scan_to_table": "batch",
    "scan_video": "pipeline",
    "settings_digest": "batch",
    "stamp_of": "batch",
    "telling_rows": "evidence",
    "timeline_paths": "output_paths",
    "write_report": "pages",
}

__all__ = [
    "Batch",
    "Finds",
    "Pages",
    "Policy",
    "Progress",
    "Scanner",
    "annotate_video",
    "check_pages",
    "explain_video",
    "explain_with",
    "explanation_folder",
    "failed",
    "find_videos",
    "gather_evidence",
    "mirrored_paths",
    "on_devices",
    "on_ray",
    "report_path",
    "scan_files",
    "scan_folder",
    "scan_to_table",
    "scan_video",
    "settings_digest",
    "stamp_of",
    "telling_rows",
    "timeline_paths",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
