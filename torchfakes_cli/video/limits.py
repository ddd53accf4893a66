"""What counts as a video or a still picture, and how large and how fast; known without loading a decoder."""

from __future__ import annotations

import os

#: File name endings, lower case, that a folder is searched for.
VIDEO_SUFFIXES: frozenset[str] = frozenset(
    {".3g2", ".3gp", ".apng", ".asf", ".avi", ".divx", ".f4v", ".flv", ".gif", ".h264", ".h265", ".hevc", ".ivf"}
    | {".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv"}
    | {".ts", ".vob", ".webm", ".wmv", ".y4m"}
)

#: Likewise of still pictures, which a folder is searched for only where that is asked for.
PICTURE_SUFFIXES: frozenset[str] = frozenset({".avif", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".webp"})

#: Largest picture decoded, in pixels: 8K (7680×4320) fits.
MAX_PIXELS = 1 << 25


def usable_cores() -> int:
    """Processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
