"""Configuration of a scan and of the verdict policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from torchfakes_cli.errors import UsageError
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.video.options import SamplingConfig

#: What "firm" should mean, rather than a fit: of 45 firm verdicts on 71 held-out public clips, 39 of them right, this
#: withdrew 5 right ones and 1 wrong one.
AGREEMENT = 2 / 3
#: No clip that the detector was calibrated on has smaller faces. Reduced to faces of 48 and 40 pixels and encoded, such
#: clips got firm verdicts of which 31 % were wrong; as they are, 21 %: see docs/experiments.md.
TINY_BELOW = 56.0


@dataclass(frozen=True, slots=True)
class VerdictConfig:
    """The policy from face scores to a verdict.

    Attributes:
        fake_above: from this probability on a video is called fake; None takes the detector's own threshold.
        real_below: below this probability it is called real; None takes the detector's own; between is inconclusive.
        min_faces: a track decides only with this many scored faces ("lasting").
        trim: share of a track's highest and of its lowest logits left out of its mean.
        agreement: a verdict is firm where at least this share of the deciding track's faces say the same by themselves.
        tiny_below: a track whose scored faces are mostly smaller than this many pixels has no firm verdict.
    """

    fake_above: float | None = None
    real_below: float | None = None
    min_faces: int = 3
    trim: float = 0.1
    agreement: float = AGREEMENT
    tiny_below: float = TINY_BELOW

    def __post_init__(self) -> None:
        for value in (self.fake_above, self.real_below):
            if value is not None and not 0 <= value <= 1:
                raise UsageError("a threshold is a probability between 0 and 1")
        if self.fake_above is not None and self.real_below is not None and self.real_below > self.fake_above:
            raise UsageError("the threshold for real must not exceed the one for fake")
        if self.min_faces < 1:
            raise UsageError("a track needs at least one face")
        if not 0 <= self.trim < 0.5:
            raise UsageError("the trimmed share must lie in [0, 0.5)")
        if not 0 <= self.agreement <= 1:
            raise UsageError("the share of faces that must agree lies between 0 and 1")
        if not 0 <= self.tiny_below < inf:
            raise UsageError("the size of tiny faces must be a number of pixels from 0 up")


@dataclass(frozen=True, slots=True)
class ScanConfig:
    """Everything that determines the result of a scan, besides the detector.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        jobs: number of videos decoded at once; None chooses by the machine.
        batch_pixels: most pixels of one video's full frames in memory, which bounds memory for any length and size.
        batch_frames: most frames in one call of the face detector.
        timeout_s: give up on a file when its decoder makes no progress for this long. Time that grows with the
            work is no hang: each of the file's frames may add half a second.
        memory_mb: MiB that decoding one file may take, beyond what its process holds from the start; held to on Linux,
            unless ``hwaccel`` is given.
        max_length_s: longer videos are refused; None for no limit.
        hwaccel: FFmpeg's name of a device to decode on, such as ``cuda``; where it can't be used, a warning says so and
            software decodes. None for software.
        copy_mb: largest size in MiB of a video at a URL; each is copied to this machine for its scan.
    """

    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    faces: FaceConfig = field(default_factory=FaceConfig)
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    device: str = "auto"
    jobs: int | None = None
    batch_pixels: int = 80 * 1920 * 1080
    batch_frames: int = 32
    timeout_s: float = 60.0
    memory_mb: int = 2048
    max_length_s: float | None = None
    hwaccel: str | None = None
    copy_mb: int = 4096

    def __post_init__(self) -> None:
        if self.copy_mb < 1:
            raise UsageError("copies of at least one MiB must be allowed")
        if self.jobs is not None and self.jobs < 1:
            raise UsageError("at least one video must be decoded at a time")
        if not self.timeout_s > 0:
            raise UsageError("the timeout must be above 0 seconds")
        if self.memory_mb < 64:
            raise UsageError("decoding takes 64 MiB of memory or more: choose a higher limit")
        if self.max_length_s is not None and not self.max_length_s > 0:
            raise UsageError("the greatest length must be above 0 seconds")
