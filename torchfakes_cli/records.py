"""Records that the stages exchange: small frozen dataclasses.

Times are seconds on the player's clock, which starts with the earliest stream of the file. Pixel arrays are H×W×3
``uint8`` in RGB order. A box is (x1, y1, x2, y2) in pixels of the upright frame and may extend beyond it. A missing
value is ``None``, never a placeholder number.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """Verdict on a video."""

    REAL = "real"
    FAKE = "fake"
    INCONCLUSIVE = "inconclusive"


class Reason(StrEnum):
    """Reason why a verdict is inconclusive."""

    NO_FACE = "no_face"
    ALL_BLURRY = "all_blurry"
    TOO_FEW_FACES = "too_few_faces"
    TINY_FACES = "tiny_faces"
    BETWEEN_THRESHOLDS = "between_thresholds"
    FRAMES_DISAGREE = "frames_disagree"
    PART_OF_CLIP = "part_of_clip"
    DAMAGED = "damaged"


class Status(StrEnum):
    """Status of a scan, which says nothing about the verdict."""

    OK = "ok"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Properties of a video file from its headers, which may be wrong, and its counted packets.

    Attributes:
        path: path as the user gave it.
        container: FFmpeg's short name of the format, such as ``mov,mp4,m4a,3gp,3g2,mj2``.
        codec: FFmpeg's name of the video codec, such as ``h264``.
        width, height: size in square pixels of the upright frame.
        fps: exact average frame rate; None if unknown.
        duration_s: duration; None if unknown.
        frame_count: number of packets counted in the file, not the header's claim; None if not counted.
        rotation: clockwise rotation in degrees (0, 90, 180, 270) that was applied to make frames upright.
        warnings: warnings in plain sentences, such as on HDR that isn't tone-mapped.
        picture: True for a still picture, which has one frame at time 0, and neither rate nor duration.
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
    """One decoded frame.

    Attributes:
        time_s: presentation time.
        index: index in presentation order; None if unknown, as after a seek.
        pixels: H×W×3 uint8 RGB, upright, square pixels.
        damaged: True if the decoder concealed damaged parts.
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
    """Statistics and warnings of decoding one file.

    Attributes:
        frames_wanted, frames_delivered: numbers of samples requested and decoded.
        packets_bad: number of packets that the decoder refused.
        warnings: warnings in plain sentences, such as ``partial: 72 of 125 frames``.
    """

    frames_wanted: int
    frames_delivered: int
    packets_bad: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Face:
    """One face detected in one frame.

    Attributes:
        box: (x1, y1, x2, y2), the last two exclusive.
        confidence: confidence of the face detector, 0 to 1.
        landmarks: left eye, right eye, nose, left and right mouth corner as (x, y); left and right as in the frame.
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
    """One row of the timeline: a face, or a sampled frame without a face.

    Attributes:
        time_s: time of the frame.
        frame: index of the frame in presentation order; None if unknown.
        track: number of the person's track, from 1; None for a frame without a face.
        face: detected face; None for a frame without a face.
        sharpness: variance of the Laplacian of the crop; None for a frame without a face.
        logit: output of the detector; None if no face was scored.
        p_fake: calibrated probability that the face is synthetic; None if ``logit`` is None.
        note: why there is no score: ``no_face``, ``blurry``, ``damaged`` (concealed parts of the frame may look like a
            manipulation, or hide a face), or ``long_shot`` (late in a long track only one face in four is scored);
            empty if there is a score.
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
    """Part of a track that scores as fake although the whole track doesn't.

    Attributes:
        start_s, end_s: times of its first and last face that score as fake.
        p_fake: probability of its most suspicious window, reached both in the trimmed mean and by agreement of its
            faces.
    """

    start_s: float
    end_s: float
    p_fake: float


@dataclass(frozen=True, slots=True)
class Track:
    """Faces of one person in one shot.

    Attributes:
        number: number of the track, from 1 in order of first appearance.
        start_s, end_s: times of its first and last face.
        faces, faces_scored: number of its faces, and of those that were scored.
        logit: trimmed mean of the logits; None without scored faces.
        p_fake: calibrated probability of the logit; None if ``logit`` is None.
        peak_time_s: time of its most suspicious face; None if ``logit`` is None.
        lasting: True if it has enough scored faces to decide a verdict.
        doubt: why its score doesn't suffice for a firm verdict (``tiny_faces``); None if it does.
        suspicious_span: part that scores as fake although the whole track doesn't; None without one.
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
class ErrorRates:
    """Error rates: verdicts on labeled videos of people that the calibration wasn't fitted on.

    Attributes:
        genuine, fakes: numbers of genuine and of fake videos by verdict (``real``, ``inconclusive``, ``fake``).
        footage: description of the videos; empty if the checkpoint has none.
    """

    genuine: Mapping[str, int]
    fakes: Mapping[str, int]
    footage: str


@dataclass(frozen=True, slots=True)
class Source:
    """Web page from which a video was downloaded; fields that the page doesn't tell are empty.

    Attributes:
        page: address of the page.
        site: name of the site, as yt-dlp calls it.
        id, title: identifier and title of the video on the site.
        uploader: account that uploaded it.
        uploaded: date of the upload, as ISO 8601 (``2026-11-30``).
    """

    page: str
    site: str
    id: str
    title: str = ""
    uploader: str = ""
    uploaded: str = ""


@dataclass(frozen=True, slots=True)
class VideoResult:
    """Result of the scan of one file.

    Attributes:
        path: path as the user gave it.
        status: ``ok``, or ``error`` if the file couldn't be scanned.
        verdict: verdict on the video; None with status ``error``.
        p_fake: probability of the deciding track; None if no face was scored.
        reason: why the verdict is inconclusive; None otherwise.
        info: properties of the file; None if it couldn't be opened.
        frames_sampled: number of sampled frames.
        timeline: one row per face, and one for each sampled frame without a face, in order of time.
        tracks: tracks of people, in order of first appearance.
        peak_time_s: time of the most suspicious face of the deciding track.
        elapsed_s: duration of the scan.
        model: name of the detector.
        warnings: warnings in plain sentences.
        error: one-line message with status ``error``; empty otherwise.
        sha256: checksum of the file in hexadecimal; empty if it couldn't be scanned.
        scanned_at: time of the result in UTC, as ISO 8601 (``2026-11-30T10:03:57Z``).
        fake_above, real_below: probabilities from and below which the verdict is fake and real; None after an error.
        error_rates: measured error rates of the detector; None if unknown, or measured with other thresholds.
        source: where a downloaded video comes from; None for a file.
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
    sha256: str = ""
    scanned_at: str = ""
    fake_above: float | None = None
    real_below: float | None = None
    error_rates: ErrorRates | None = None
    source: Source | None = None

    @property
    def flagged(self) -> tuple[Track, ...]:
        """Tracks that can decide a verdict and whose score is at least ``fake_above``, the most suspicious first."""
        bound = 2.0 if self.fake_above is None else self.fake_above
        tracks = [track for track in self.tracks if track.lasting and not track.doubt and (track.p_fake or 0) >= bound]
        return tuple(sorted(tracks, key=lambda track: -(track.logit or 0.0)))

    @property
    def is_picture(self) -> bool:
        """True if the file is a still picture."""
        return self.info is not None and self.info.picture

    @property
    def faces_scored(self) -> int:
        """Number of faces that were scored."""
        return sum(row.logit is not None for row in self.timeline)

    @property
    def faces_blurry(self) -> int:
        """Number of faces that were too blurry to score."""
        return sum(row.note == "blurry" for row in self.timeline)

    @property
    def people_flagged(self) -> int:
        """Number of people whose score reaches the threshold for fake."""
        return len(self.flagged)
