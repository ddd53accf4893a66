"""Made-up results, complete down to the last field."""

from __future__ import annotations

from fractions import Fraction

from torchfakes_cli.records import ErrorRates, Face, FaceScore, Reason, Status, Track, Verdict, VideoInfo, VideoResult

FACE = Face(
    box=(-3.04, 10.0, 61.25, 80.0),
    confidence=0.99987,
    landmarks=((10.0, 20.0), (40.0, 20.0), (25.0, 35.0), (15.0, 50.0), (35.0, 50.0)),
)
TIMELINE = (
    FaceScore(0.0, 0, track=1, face=FACE, sharpness=120.5, logit=-1.25, p_fake=0.22270),
    FaceScore(0.0, 0, track=2, face=FACE, sharpness=3.0, note="blurry"),
    FaceScore(1.0001, None, note="no_face"),
)
TRACK = Track(1, 0.0, 0.0, 1, 1, -1.25, 0.2227, 0.0, lasting=False)
RATES = ErrorRates(
    {"real": 20, "inconclusive": 2, "fake": 2}, {"real": 3, "inconclusive": 14, "fake": 9}, "50 clips of 20 people"
)
INFO = VideoInfo("clip.mp4", "mov", "h264", 1920, 1080, Fraction(30000, 1001), 12.5, 375)


def result(path: str = "clip.mp4") -> VideoResult:
    """An inconclusive one with a face scored, a blurry one, and a frame without."""
    return VideoResult(
        path=path,
        status=Status.OK,
        verdict=Verdict.INCONCLUSIVE,
        p_fake=0.2227,
        reason=Reason.TOO_FEW_FACES,
        info=INFO,
        frames_sampled=2,
        timeline=TIMELINE,
        tracks=(TRACK,),
        peak_time_s=0.0,
        elapsed_s=1.5,
        model="tested",
        warnings=("partial: 2 of 5 frames", "HDR"),
        sha256="ab" * 32,
        scanned_at="2026-11-30T10:05:12Z",
        fake_above=0.69,
        real_below=0.45,
        error_rates=RATES,
    )


def failure(path: str = "broken.mp4") -> VideoResult:
    """A file that couldn't be scanned."""
    return VideoResult(path=path, status=Status.ERROR, error="empty file. Copy it again.", elapsed_s=0.25)
