"""From a video file to a verdict: the pipeline of one video, the policy, and many files in a row.

Names are loaded when first used, so that importing the room, or its policy alone, stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchfakes_cli.scan.annotate import annotate_video
    from torchfakes_cli.scan.batch import failed, scan_files, scan_folder, settings_digest, stamp_of, unreadable_folder
    from torchfakes_cli.scan.evidence import gather_evidence, telling_rows
    from torchfakes_cli.scan.explain import explain_video, explain_with
    from torchfakes_cli.scan.pages import Pages, write_report
    from torchfakes_cli.scan.pipeline import Progress, Scanner, scan_video
    from torchfakes_cli.scan.places import PAGE_ENDING, explanation_place, mirrored_places, timeline_places
    from torchfakes_cli.scan.search import Finds, find_videos
    from torchfakes_cli.scan.spread import on_devices, on_ray
    from torchfakes_cli.scan.verdict import Policy

_HOME = {
    "Finds": "search",
    "PAGE_ENDING": "places",
    "Pages": "pages",
    "Policy": "verdict",
    "Progress": "pipeline",
    "Scanner": "pipeline",
    "annotate_video": "annotate",
    "explain_video": "explain",
    "explain_with": "explain",
    "explanation_place": "places",
    "failed": "batch",
    "find_videos": "search",
    "gather_evidence": "evidence",
    "mirrored_places": "places",
    "on_devices": "spread",
    "on_ray": "spread",
    "scan_files": "batch",
    "scan_folder": "batch",
    "scan_video": "pipeline",
    "settings_digest": "batch",
    "stamp_of": "batch",
    "telling_rows": "evidence",
    "timeline_places": "places",
    "unreadable_folder": "batch",
    "write_report": "pages",
}

__all__ = [
    "PAGE_ENDING",
    "Finds",
    "Pages",
    "Policy",
    "Progress",
    "Scanner",
    "annotate_video",
    "explain_video",
    "explain_with",
    "explanation_place",
    "failed",
    "find_videos",
    "gather_evidence",
    "mirrored_places",
    "on_devices",
    "on_ray",
    "scan_files",
    "scan_folder",
    "scan_video",
    "settings_digest",
    "stamp_of",
    "telling_rows",
    "timeline_places",
    "unreadable_folder",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
