"""Configuration of a scan and of the verdict policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from torchfakes_cli.errors import UsageError
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.video.options import SamplingConfig

#: Chosen as a definition of "firm", not fitted. On 71 held-out public clips with 45 firm verdicts, 39 of them correct,
#: it turned 5 correct verdicts and 1 wrong one into inconclusive ones.
AGREEMENT = 2 / 3
#: Smallest face size in the calibration clips. Downscaled to faces of 48 and 40 pixels and encoded, the clips got firm
#: verdicts of which 31 % were wrong, against 21 % at full size (docs/experiments.md).
TINY_BELOW = 56.0
#: Default numbers of faces per person, and of people, that an explanation shows.
FACES_A_TRACK = 3
MOST_TRACKS = 4


@dataclass(frozen=True, slots=True)
class VerdictConfig:
    """Configuration of the verdict policy.

    Attributes:
        fake_above, real_below: probabilities from and below which the verdict is fake and real; None takes the
            detector's own threshold.
        min_faces: smallest number of scored faces with which a track can decide ("lasting").
        trim: share of a track's highest logits, and of its lowest, that its trimmed mean leaves out.
        agreement: smallest share of the deciding track's faces that must individually support a firm verdict.
        tiny_below: face size in pixels; a track whose median scored face is smaller gives no firm verdict.
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
            raise UsageError(
                f"the threshold for real ({self.real_below:g}) exceeds the one for fake ({self.fake_above:g})",
                advice="Give both.",
            )
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
    """Configuration of a scan: everything that determines its result, besides the detector.

    Attributes:
        sampling, faces, verdict: settings of sampling, face detection and the verdict policy.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        jobs: number of videos decoded at once; None chooses a number that suits the machine.
        batch_pixels: largest number of pixels of one video's full frames in memory.
        batch_frames: largest number of frames in one call of the face detector.
        timeout_s: seconds without progress after which decoding of a file is given up; each frame of the file may add
            up to half a second to the time allowed for the whole file.
        memory_mb: memory limit in MiB for decoding one file, beyond what the process uses at its start; enforced on
            Linux, unless ``hwaccel`` is given.
        max_length_s: length in seconds beyond which a video is refused; None for no limit.
        hwaccel: FFmpeg's name of a hardware decoder, such as ``cuda``; if it isn't available, a warning is added and
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
