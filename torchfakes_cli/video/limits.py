"""File suffixes, the picture size limit and the usable processor cores; importing this loads no decoder."""

from __future__ import annotations

import os

#: Suffixes of video files, in lower case, that a folder search includes.
VIDEO_SUFFIXES: frozenset[str] = frozenset(
    {".264", ".265", ".360", ".3g2", ".3gp", ".3gp2", ".3gpp", ".3gpp2", ".amv", ".apng", ".asf", ".avc"}
    | {".avi", ".dif", ".divx", ".dv", ".dvr-ms", ".f4p", ".f4v", ".flv", ".gif", ".h264", ".h265", ".hevc"}
    | {".insv", ".ismv", ".ivf", ".lrf", ".lrv", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4v", ".mk3d"}
    | {".mkv", ".mod", ".mov", ".mp4", ".mp4v", ".mpe", ".mpeg", ".mpg", ".mpv", ".mqv", ".mts", ".mxf", ".nsv"}
    | {".nut", ".obu", ".ogm", ".ogv", ".ogx", ".qt", ".rm", ".rmvb", ".tod", ".tp", ".trp", ".ts", ".vc1"}
    | {".vob", ".vro", ".webm", ".wmv", ".wtv", ".xvid", ".y4m"}
)

#: Suffixes of still pictures, in lower case, that a folder search includes.
PICTURE_SUFFIXES: frozenset[str] = frozenset({".avif", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".webp"})

#: Maximum number of pixels in a decoded picture; 8K (7680×4320) fits.
MAX_PIXELS = 1 << 25


def usable_cores() -> int:
    """Returns the number of processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
