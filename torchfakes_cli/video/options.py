"""Sampling options, file suffixes, the picture size limit and the usable cores; importing this loads no decoder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction

from torchfakes_cli.errors import UsageError

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


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """Which frames of a video are sampled.

    Attributes:
        fps: samples per second; None derives the number from ``frames`` and the duration.
        frames: with ``fps`` None, this many samples spread evenly over a clip of up to ``frames`` seconds (or over any
            clip if ``frames_fixed``), and one per second beyond that.
        frames_fixed: whether the user asked for exactly ``frames`` samples.
        start_s: frames before this time are skipped.
        end_s: frames from this time on are skipped; None for the end of the video.
        key_frames: use a key frame within a quarter of the gap between samples instead of the frame at the wanted
            time, because it is decoded alone; 32 samples or more may move by up to three eighths of a gap to hit more
            key frames. The number of samples stays the same, also with ``fps``.
    """

    fps: Fraction | None = None
    frames: int = 32
    frames_fixed: bool = False
    start_s: float = 0.0
    end_s: float | None = None
    key_frames: bool = True

    def __post_init__(self) -> None:
        if self.fps is not None and self.fps <= 0:
            raise UsageError("the sampling rate must be above 0", advice="--fps 1 takes one frame a second.")
        if self.frames < 1:
            raise UsageError("at least one frame must be sampled", advice="--frames 1 takes one.")
        if self.fps is not None and self.frames_fixed:
            raise UsageError("give either a rate or a number of frames, not both")
        if self.start_s < 0:
            raise UsageError("the start must not lie before 0 seconds")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise UsageError(
                f"the end ({self.end_s:g} s) must lie after the start ({self.start_s:g} s)",
                advice="Give a later --end or an earlier --start.",
            )


def usable_cores() -> int:
    """Return the number of processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
