"""What flows between the stages: small, frozen records with their units.

Conventions, everywhere: times are seconds (float) on the player's clock, which starts with
the earliest stream of the file; sizes are (width, height);
pixel arrays are H×W×3 ``uint8`` in RGB order; a box is (x1, y1, x2, y2) in pixels of the upright frame and may leave
it; *fake* is 1. A missing value is ``None``, never a made-up number.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Box = tuple[float, float, float, float]
Point = tuple[float, float]


class Verdict(StrEnum):
    """What is said of a video."""

    REAL = "real"
    FAKE = "fake"
    INCONCLUSIVE = "inconclusive"


class Reason(StrEnum):
    """Why a verdict is inconclusive."""

    NO_FACE = "no_face"
    ALL_BLURRY = "all_blurry"
    TOO_FEW_FACES = "too_few_faces"
    TINY_FACES = "tiny_faces"
    BETWEEN_THRESHOLDS = "between_thresholds"
    FRAMES_DISAGREE = "frames_disagree"
    PART_OF_CLIP = "part_of_clip"
    DAMAGED = "damaged"


class Status(StrEnum):
    """Whether a file could be scanned; not to be mixed up with the verdict."""

    OK = "ok"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a file says of itself (some of it may be wrong) and, where counted, what it holds.

    Attributes:
        path: as the user gave it.
        container: FFmpeg's short name of the format, such as ``mov,mp4,m4a,3gp,3g2,mj2``.
        codec: FFmpeg's name of the video codec, such as ``h264``.
        width: of the upright picture with square pixels.
        height: of the upright picture with square pixels.
        fps: average frame rate, exact; None where unknown.
        duration_s: seconds shown; None where unknown.
        frame_count: packets counted in the file, not the header's claim; None where not counted.
        rotation: degrees clockwise (0, 90, 180, 270) that were applied to make frames upright.
        warnings: plain sentences on what a user should know (HDR not tone-mapped, several streams, …).
        picture: it is a still picture, of one frame at time 0, without rate and duration.
    """

    path: str
    container: str
    codec: str
    width: int
    height: int
    fps: Fraction | None
    duration_s: float | None
    frame_count: int | None = None
    rotation: int = 0
    warnings: tuple[str, ...] = ()
    picture: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture.

    Attributes:
        time_s: presentation time on the player's clock.
        index: place in presentation order; None where the way it was reached doesn't tell.
        pixels: H×W×3 uint8 RGB, upright, square pixels.
        damaged: the decoder had to make up parts of it.
    """

    time_s: float
    index: int | None
    pixels: NDArray[np.uint8]
    damaged: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def __repr__(self) -> str:
        return f"Frame(time_s={self.time_s:.3f}, index={self.index}, size={self.size})"


@dataclass(frozen=True, slots=True)
class DecodeReport:
    """How the decoding of one file went.

    Attributes:
        frames_wanted: samples asked for.
        frames_delivered: samples that came.
        packets_bad: packets the decoder refused.
        warnings: plain sentences, such as ``partial: 72 of 125 frames``.
    """

    frames_wanted: int
    frames_delivered: int
    packets_bad: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Face:
    """One face found in one frame.

    Attributes:
        box: (x1, y1, x2, y2) in pixels of the frame, x2 and y2 exclusive; may leave the frame.
        confidence: the face detector's, 0 to 1.
        landmarks: left eye, right eye, nose, left and right mouth corner as (x, y), as seen in the picture.
    """

    box: Box
    confidence: float
    landmarks: tuple[Point, Point, Point, Point, Point]

    @property
    def size(self) -> float:
        """The shorter side of the box in pixels."""
        x1, y1, x2, y2 = self.box
        return min(x2 - x1, y2 - y1)


@dataclass(frozen=True, slots=True)
class FaceScore:
    """One row of the timeline: a face, or a sampled frame without any.

    Attributes:
        time_s: of the frame.
        frame: index in presentation order, where known.
        track: number of the person's track, from 1; None on a frame without a face.
        face: None on a frame without a face.
        sharpness: variance of the Laplacian of the crop; None on a frame without a face.
        logit: the detector's output; None where there was no face or it was not scored.
        p_fake: calibrated probability that the face is synthetic; None with the logit.
        note: why there is no score: ``no_face``, ``blurry``, ``damaged`` (the picture: what its decoder made up may
            look like a manipulation, or hide a face), or ``long_shot`` (late in a long shot of a person only one face
            in four is scored); else empty.
    """

    time_s: float
    frame: int | None
    track: int | None = None
    face: Face | None = None
    sharpness: float | None = None
    logit: float | None = None
    p_fake: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class SuspiciousSpan:
    """The part of a track that scores as fake where the whole of it doesn't.

    Attributes:
        start_s: time of its first face that scores as fake.
        end_s: time of its last one.
        p_fake: of its most suspicious window: what the window's trimmed mean and enough of its faces reach.
    """

    start_s: float
    end_s: float
    p_fake: float


@dataclass(frozen=True, slots=True)
class Track:
    """One person's faces through one shot.

    Attributes:
        number: from 1, in order of first appearance.
        start_s: time of its first face.
        end_s: time of its last face.
        faces: how many faces belong to it.
        faces_scored: how many of them were sharp enough to score.
        logit: robust mean of their logits; None without any.
        p_fake: calibrated from the logit; None with it.
        peak_time_s: time of its most suspicious face; None with the logit.
        lasting: whether it has enough scored faces to decide a verdict.
        doubt: why its score says too little for a firm verdict, ``tiny_faces``; else None.
        suspicious_span: the part of it that scores as fake where the whole doesn't; else None.
    """

    number: int
    start_s: float
    end_s: float
    faces: int
    faces_scored: int
    logit: float | None
    p_fake: float | None
    peak_time_s: float | None
    lasting: bool
    doubt: Reason | None = None
    suspicious_span: SuspiciousSpan | None = None


@dataclass(frozen=True, slots=True)
class VideoResult:
    """Everything known of one file after its scan.

    Attributes:
        path: as the user gave it.
        status: whether it could be scanned.
        verdict: None with status ``error``.
        p_fake: of the track that decided; None where nothing was scored.
        reason: why the verdict is inconclusive; None otherwise.
        info: None where the file didn't open.
        frames_sampled: frames looked at.
        timeline: one row a face, and one for each sampled frame without any, in order of time.
        tracks: the people found, in order of first appearance.
        peak_time_s: time of the most suspicious face of the deciding track.
        elapsed_s: seconds the scan took.
        model: name of the detector.
        warnings: what a user should know, in plain sentences.
        error: one line, with status ``error``.
    """

    path: str
    status: Status
    verdict: Verdict | None = None
    p_fake: float | None = None
    reason: Reason | None = None
    info: VideoInfo | None = None
    frames_sampled: int = 0
    timeline: tuple[FaceScore, ...] = ()
    tracks: tuple[Track, ...] = ()
    peak_time_s: float | None = None
    elapsed_s: float = 0.0
    model: str = ""
    warnings: tuple[str, ...] = ()
    error: str = ""

    @property
    def is_picture(self) -> bool:
        """Whether the file is a still picture."""
        return self.info is not None and self.info.picture

    @property
    def faces_scored(self) -> int:
        """Faces that were sharp enough to score."""
        return sum(row.logit is not None for row in self.timeline)

    @property
    def faces_blurry(self) -> int:
        """Faces that were found but too blurry to score."""
        return sum(row.note == "blurry" for row in self.timeline)


@dataclass(frozen=True, slots=True, eq=False)
class TellingFace:
    """A face shown as evidence: what the network saw of it, and where it looked.

    Attributes:
        row: the face's row in the timeline; it has a score.
        picture: H×W×3 uint8 RGB, the network's crop of the frame, at the frame's own resolution or reduced; a square,
            unless the detector takes boxes as they are.
        landmarks: those of the face, in pixels of ``picture``.
        heat_fake: S×S float32, the share of each place in what speaks for "fake": the sum is 1, or 0 where nothing
            does. It is laid over the whole picture; None where it wasn't asked for.
        heat_real: the same for "real".
    """

    row: FaceScore
    picture: NDArray[np.uint8]
    landmarks: tuple[Point, Point, Point, Point, Point]
    heat_fake: NDArray[np.float32] | None = None
    heat_real: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class RegionShare:
    """How much of what a heat map shows falls on one region of a face.

    Attributes:
        region: one of ``faces.regions.REGIONS``.
        area: the region's share of the crop's area, places that the network sees less of counted less: what an even
            map would show.
        fake: its share of what speaks for "fake", 0 to 1; None where nothing does.
        real: the same for "real".
    """

    region: str
    area: float
    fake: float | None
    real: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What a verdict rests on, face by face and on average.

    Attributes:
        result: of the scan.
        faces: with heat maps, person by person, each one's most suspicious face first.
        regions: of each face, in the order of ``faces``.
        average: over each person's faces, and then over people; empty without a face.
    """

    result: VideoResult
    faces: tuple[TellingFace, ...] = ()
    regions: tuple[tuple[RegionShare, ...], ...] = ()
    average: tuple[RegionShare, ...] = ()


class Severity(StrEnum):
    """Severity of a diagnostic, as to whether scans work."""

    GOOD = "good"
    LIMITED = "limited"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Fact:
    """One diagnostic of this machine or installation, or one property of a file.

    Attributes:
        name: of the property.
        value: what was found or chosen, in a few words.
        why: the reason or the consequence, in a clause; may be empty.
        severity: ``broken`` if no scan can work.
    """

    name: str
    value: str
    why: str = ""
    severity: Severity = Severity.GOOD


class CredentialsState(StrEnum):
    """What became of the look for Content Credentials (C2PA) in a file."""

    NOT_LOOKED = "not_looked"
    UNSUPPORTED = "unsupported"
    NONE = "none"
    UNREADABLE = "unreadable"
    INVALID = "invalid"
    VALID = "valid"
    TRUSTED = "trusted"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The Content Credentials (C2PA) of a file: what its makers signed of its origin.

    Attributes:
        state: ``valid`` where nothing was changed since it was signed, ``trusted`` where the signer is known as well;
            ``not_looked`` where the library is missing, ``unsupported`` where the format can hold none.
        facts: what they say: who signed, with what, when, and what was done to the file.
        problems: why they are invalid or unreadable, in the library's words.
    """

    state: CredentialsState
    facts: tuple[Fact, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a file tells of itself and of how it was made; all of it but size and checksum can be forged.

    Attributes:
        size: in bytes.
        sha256: of the whole file, in hexadecimal.
        facts: container, streams, and traces that cameras and programs leave.
        credentials: its Content Credentials.
    """

    size: int
    sha256: str
    facts: tuple[Fact, ...]
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Provenance:
    """Provenance of a result: everything needed to reproduce it.

    Attributes:
        version: of torchfakes.
        command: as a shell takes it; empty where none was given, as from Python.
        model_sha256: of the checkpoint, in hexadecimal; None where it isn't known which file it was.
        calibrated_on: what the detector's probabilities were fitted on; empty means not at all.
        measured: how often its verdicts were wrong in its own test, as a sentence; empty where that isn't known.
        fake_above: from this probability on a video was called fake.
        real_below: below this probability it was called real.
        settings: everything else that decides what a scan says, by name.
    """

    version: str
    command: str
    model_sha256: str | None
    calibrated_on: str
    measured: str
    fake_above: float
    real_below: float
    settings: tuple[tuple[str, str], ...]
