"""Video files to upright RGB frames: safe opening, true times, chosen samples. The only place that knows PyAV.

::

    with VideoReader("clip.mp4") as video:
        for frame in video.frames(SamplingConfig()):
            ...
        print(video.info.duration_s, video.report.warnings)

``IsolatedDecoder`` reads in the same way in a process of its own, which a file may hang or crash. Names are loaded when
first used: what leaves decoding to that process needn't load PyAV.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchfakes_cli.video.encode import h264_round_trip
    from torchfakes_cli.video.isolation.client import IsolatedDecoder, IsolatedReader
    from torchfakes_cli.video.limits import PICTURE_SUFFIXES, VIDEO_SUFFIXES, usable_cores
    from torchfakes_cli.video.probing import probe
    from torchfakes_cli.video.reader import VideoReader

_HOME = {
    "IsolatedDecoder": "isolation.client",
    "IsolatedReader": "isolation.client",
    "PICTURE_SUFFIXES": "limits",
    "VIDEO_SUFFIXES": "limits",
    "VideoReader": "reader",
    "h264_round_trip": "encode",
    "probe": "probing",
    "usable_cores": "limits",
}

__all__ = [
    "PICTURE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "IsolatedDecoder",
    "IsolatedReader",
    "VideoReader",
    "h264_round_trip",
    "probe",
    "usable_cores",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
