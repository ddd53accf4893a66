"""Sampling options: which frames of a video are decoded."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from torchfakes_cli.errors import UsageError


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
