"""Every default, once. Options read them; checkpoints and reports embed them."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from torchfakes_cli.errors import UsageError

#: Side in pixels to which a grey crop is resized before its sharpness is measured, so that the threshold means the
#: same for a small face and a large one.
SHARPNESS_SIZE = 160


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """Which frames of a video are looked at.

    Attributes:
        fps: samples a second; None chooses by length (see ``frames``).
        frames: with ``fps`` None, this many samples spread evenly over a clip of up to ``frames`` seconds (or over any
            clip where ``frames_fixed``), and one a second beyond that.
        frames_fixed: the user asked for exactly ``frames`` samples.
        start_s: nothing before this time is looked at.
        end_s: nothing from this time on is looked at; None for the end of the video.
    """

    fps: Fraction | None = None
    frames: int = 32
    frames_fixed: bool = False
    start_s: float = 0.0
    end_s: float | None = None

    def __post_init__(self) -> None:
        if self.fps is not None and self.fps <= 0:
            raise UsageError("the sampling rate must be above 0")
        if self.frames < 1:
            raise UsageError("at least one frame must be sampled")
        if self.fps is not None and self.frames_fixed:
            raise UsageError("give either a rate or a number of frames, not both")
        if self.start_s < 0:
            raise UsageError("the start must not lie before 0 seconds")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise UsageError("the end must lie after the start")


@dataclass(frozen=True, slots=True)
class FaceConfig:
    """How faces are found and cut out.

    Attributes:
        min_face: smallest side of a face looked for, in pixels of the frame.
        confidence: faces below this detector confidence are dropped.
        margin: factor by which a face's box grows into its crop.
        blur_threshold: a crop whose variance of the Laplacian is below gets no score.
    """

    min_face: int = 40
    confidence: float = 0.95
    margin: float = 1.3
    blur_threshold: float = 30.0

    def __post_init__(self) -> None:
        if self.min_face < 12:
            raise UsageError("faces under 12 pixels can't be found: choose a minimum face of 12 or more")
        if not 0 < self.confidence < 1:
            raise UsageError("the face confidence must lie between 0 and 1")
        if not 0.5 <= self.margin <= 4:
            raise UsageError("the crop margin is a factor between 0.5 and 4")
        if self.blur_threshold < 0:
            raise UsageError("the blur threshold must not be negative")


@dataclass(frozen=True, slots=True)
class VerdictConfig:
    """The policy from face scores to a verdict.

    Attributes:
        fake_above: from this probability on a video is called fake; None takes the detector's own threshold.
        real_below: below this probability it is called real; None takes the detector's own; between is inconclusive.
        min_faces: a track decides only with this many scored faces ("lasting").
        trim: share of a track's highest and of its lowest logits left out of its mean.
    """

    fake_above: float | None = None
    real_below: float | None = None
    min_faces: int = 3
    trim: float = 0.1

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


@dataclass(frozen=True, slots=True)
class ScanConfig:
    """Everything that decides what a scan says, besides the detector.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        batch_pixels: pixels of full frames held at once, so that memory doesn't grow with length or size.
        batch_frames: frames detected at once, at most.
    """

    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    faces: FaceConfig = field(default_factory=FaceConfig)
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    device: str = "auto"
    batch_pixels: int = 16 * 1920 * 1080
    batch_frames: int = 16
