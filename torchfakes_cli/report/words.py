"""A result in plain words, the same on the terminal and on a page."""

from __future__ import annotations

from typing import Protocol

from torchfakes_cli.records import Reason, Track, Verdict, VideoInfo, VideoResult

#: Stands beside every verdict.
CAVEAT = "A low score is no proof of authenticity."

#: Stands beside the verdict on a still picture.
ONE_VIEW = "One view of a face tells less than a video, which the detector was calibrated on."

_WHY_INCONCLUSIVE = {
    Reason.NO_FACE: "No face was found in the {frames}. Try --min-face for smaller faces, or --fps to look at more.",
    Reason.ALL_BLURRY: "Faces were found, but none sharp enough to score. Try --fps to look at more frames; "
    "--blur-threshold 0 scores them anyway.",
    Reason.TOO_FEW_FACES: "Too few sharp faces of any one person for a firm verdict. Try --fps to look at more frames.",
    Reason.TINY_FACES: "The most suspicious person's faces are too small: most are smaller than any that the detector "
    "is known to judge. Look for a larger version of the video.",
    Reason.DAMAGED: "Too much of the video is damaged for a firm verdict. Copy or download it again.",
    Reason.BETWEEN_THRESHOLDS: "The most suspicious face scores between what is called real (below {real:.2f}) and "
    "what is called fake (from {fake:.2f}).",
    Reason.FRAMES_DISAGREE: "The frames disagree: on average the most suspicious person scores clearly, but too many "
    "of their faces don't say so. Look at the timeline, or try --fps to look at more frames.",
}


_WHY_OF_A_PICTURE = {
    **_WHY_INCONCLUSIVE,
    Reason.NO_FACE: "No face was found in the picture. Try --min-face for smaller faces.",
    Reason.ALL_BLURRY: "Faces were found, but none sharp enough to score; --blur-threshold 0 scores them anyway.",
    Reason.TINY_FACES: "The most suspicious face is smaller than any that the detector is known to judge. Look for a "
    "larger version of the picture.",
    Reason.DAMAGED: "The picture is damaged. Copy or download it again.",
}


#: What is said of a person whose score says too little.
DOUBTED = {
    Reason.TINY_FACES: "faces too small to decide",
}


class Thresholds(Protocol):
    """What a probability is called by."""

    @property
    def fake_above(self) -> float:
        """From this probability on a video is called fake."""

    @property
    def real_below(self) -> float:
        """Below this probability it is called real."""


def meaning(result: VideoResult, thresholds: Thresholds) -> str:
    """The verdict of a result with status ``ok``, as a sentence or two."""
    if result.reason:
        frames = "one frame looked at" if result.frames_sampled == 1 else f"{result.frames_sampled} frames looked at"
        words = (_WHY_OF_A_PICTURE if result.is_picture else _WHY_INCONCLUSIVE)[result.reason]
        return words.format(frames=frames, real=thresholds.real_below, fake=thresholds.fake_above)
    percent = f"{100 * (result.p_fake or 0):.0f}%"
    if result.verdict is Verdict.FAKE:
        when = f", most of all at {clock(result.peak_time_s or 0)}"
        if result.is_picture:
            when = ", by this one picture"
        return f"Person {deciding(result)} looks synthetic ({percent} likely){when}."
    if result.is_picture:
        return f"No clear sign of a synthetic face in this one picture ({percent} likely for the most suspicious one)."
    if sum(track.lasting and not track.doubt for track in result.tracks) > 1:
        return f"Nobody seen for long looks synthetic ({percent} likely for the most suspicious person)."
    return f"No clear sign of a synthetic face ({percent} likely to be one)."


def deciding(result: VideoResult) -> int:
    """Number of the track that a firm verdict rests on."""
    lasting = [track for track in result.tracks if track.lasting and not track.doubt]
    return max(lasting, key=lambda track: track.logit or 0.0).number


def by_suspicion(result: VideoResult) -> list[Track]:
    """Tracks of a result: the one that a firm verdict rests on, those that last, the most suspicious first."""
    first = deciding(result) if result.verdict in (Verdict.FAKE, Verdict.REAL) else None
    return sorted(
        result.tracks, key=lambda t: (t.number != first, not t.lasting, t.logit is None, -(t.logit or 0.0), t.number)
    )


def clock(seconds: float) -> str:
    """Seconds as a player shows them: m:ss, or h:mm:ss.

    Example:
        >>> clock(75.9), clock(3605)
        ('1:15', '1:00:05')
    """
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def geometry(info: VideoInfo) -> list[str]:
    """Size, rate and length of a video, those that are known."""
    facts = [f"{info.width}x{info.height}"]
    if info.fps is not None:
        facts.append(f"{float(info.fps):.4g} fps")
    if info.duration_s is not None:
        facts.append(clock(info.duration_s))
    return facts
