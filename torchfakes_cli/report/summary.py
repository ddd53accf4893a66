"""Summaries: a result in plain words (headline, reason, people, caveats) for terminal, pages and clips.

Renderers take their words from here and add only layout. Codes such as ``frames_disagree`` are for machine-readable
columns; ``reason_words`` gives their words for people.
"""

from __future__ import annotations

import math
import re
import statistics
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from torchfakes_cli.records import Provenance, Reason, SuspiciousSpan, Track, Verdict, VideoInfo, VideoResult

#: Shown beside every verdict.
CAVEAT = "A low score is no proof of authenticity."

#: Shown beside the verdict on a still picture.
ONE_VIEW = "One view of a face tells less than a video, which the detector was calibrated on."

#: True of every detector that this program runs.
LIMITS = (
    CAVEAT,
    "A high score is no proof of a forgery either: real videos are called fake too, the more often the less they "
    "resemble what the detector was trained on.",
    "It looks for swapped faces and animated portraits, frame by frame. It doesn't listen, doesn't judge movement, and "
    "wasn't made for fully generated scenes, manipulated bodies or drawings.",
    "Use it to decide where to look closer, beside the source, the context and other tools; never alone to accuse "
    "anyone.",
)


class _Why(NamedTuple):
    """Why a verdict is inconclusive: a few words, a sentence, and what to try on the command line."""

    short: str
    sentence: str
    advice: str = ""


_LARGER = "Look for a larger version."
_COPY = "Copy or download it again."
_MORE_FRAMES = "Try --fps to sample more frames."
_WHY = {
    Reason.NO_FACE: _Why(
        "no face found",
        "No face was found in the {frames}.",
        "Try --min-face for smaller faces, or --fps to sample more frames.",
    ),
    Reason.ALL_BLURRY: _Why(
        "all faces too blurry",
        "Faces were found, but none sharp enough to score.",
        f"{_MORE_FRAMES} --blur-threshold 0 scores them anyway.",
    ),
    Reason.TOO_FEW_FACES: _Why(
        "too few sharp faces", "Too few sharp faces of any one person for a firm verdict.", _MORE_FRAMES
    ),
    Reason.TINY_FACES: _Why(
        "faces too small",
        "The most suspicious person's faces are too small for a firm verdict: most are smaller than any that the "
        "detector is known to judge.",
        _LARGER,
    ),
    Reason.DAMAGED: _Why("the video is damaged", "Too much of the video is damaged for a firm verdict.", _COPY),
    Reason.BETWEEN_THRESHOLDS: _Why(
        "between the thresholds",
        "The most suspicious face scores between what is called real (below {real}) and what is called fake (from "
        "{fake}).",
    ),
    Reason.FRAMES_DISAGREE: _Why(
        "the frames disagree",
        "The frames disagree: on average the most suspicious person scores clearly, but too many of their faces don't "
        "say so.",
        f"Look at the timeline. {_MORE_FRAMES}",
    ),
    Reason.PART_OF_CLIP: _Why(
        "part of the clip",
        "Person {person} looks synthetic {span} ({likely} there), but not over the whole clip.",
        "Watch this part closely, or scan it alone: --start {start} --end {end} --fps 8.",
    ),
}
_WHY_OF_A_PICTURE = _WHY | {
    Reason.NO_FACE: _Why("no face found", "No face was found in the picture.", "Try --min-face for smaller faces."),
    Reason.ALL_BLURRY: _WHY[Reason.ALL_BLURRY]._replace(advice="--blur-threshold 0 scores them anyway."),
    Reason.TINY_FACES: _Why(
        "faces too small",
        "The most suspicious face is smaller than any that the detector is known to judge.",
        _LARGER,
    ),
    Reason.DAMAGED: _Why("the picture is damaged", "The picture is damaged.", _COPY),
}

_DOUBTED = {
    Reason.TINY_FACES: "faces too small to decide",
}
_NOTES = {
    "no_face": "no face",
    "blurry": "too blurry",
    "damaged": "damaged picture",
    "long_shot": "not scored: one face in several of a long shot is",
}


class Thresholds(Protocol):
    """The probabilities at which a video is called fake or real."""

    @property
    def fake_above(self) -> float:
        """From this probability on a video is called fake."""

    @property
    def real_below(self) -> float:
        """Below this probability it is called real."""


class Word(StrEnum):
    """Meaning of a person's score, in a word or two."""

    FAKE = "fake"
    REAL = "real"
    BETWEEN = "inconclusive"
    TOO_FEW = "too few faces"
    UNSCORED = "no score"


@dataclass(frozen=True, slots=True)
class Person:
    """Track with the meaning of its score.

    Attributes:
        track: track of the person.
        word: meaning of the score, for a label.
        standing: meaning of the score as a clause.
        decides: True if a firm verdict rests on this person.
    """

    track: Track
    word: Word
    standing: str
    decides: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """A result with status ``ok`` in words.

    Attributes:
        verdict: verdict on the file.
        score: ``p_fake`` such as ``0.88``; empty if no face was scored.
        short: basis of the verdict, or reason why it is inconclusive, in a few words.
        headline: verdict in a sentence or two.
        advice: options to try on the command line; empty if there are none.
        people: people, beginning with the deciding one, then lasting ones, the most suspicious first.
    """

    verdict: Verdict
    score: str
    short: str
    headline: str
    advice: str
    people: tuple[Person, ...]

    @property
    def text(self) -> str:
        """Headline and advice."""
        return f"{self.headline} {self.advice}".strip()


def summarise(result: VideoResult, thresholds: Thresholds) -> Summary:
    """Put a result with status ``ok`` into words."""
    firm = deciding(result) if result.verdict in (Verdict.FAKE, Verdict.REAL) else None
    people = tuple(Person(track, *_standing(track, thresholds), track.number == firm) for track in by_suspicion(result))
    if result.reason:
        why = (_WHY_OF_A_PICTURE if result.is_picture else _WHY)[result.reason]
        frames = "one frame sampled" if result.frames_sampled == 1 else f"{result.frames_sampled} frames sampled"
        real, fake = apart(thresholds.real_below, thresholds.fake_above)
        words = {"frames": frames, "real": real, "fake": fake, **_part(result)}
        headline, advice = why.sentence.format(**words), why.advice.format(**words)
    else:
        headline, advice = _firm(result, firm or 0), ""
    short = reason_words(result.reason, picture=result.is_picture) or f"person {firm} decides"
    return Summary(result.verdict or Verdict.INCONCLUSIVE, score(result.p_fake), short, headline, advice, people)


def _part(result: VideoResult) -> dict[str, str]:
    """Words on the most suspicious span; empty without one."""
    parts = [(track.suspicious_span, track.number) for track in result.tracks if track.suspicious_span]
    if not parts:
        return {}
    span, person = max(parts, key=lambda part: part[0].p_fake)
    start, end = math.floor(span.start_s), math.floor(span.end_s) + 1
    likely = f"{100 * span.p_fake:.0f}% likely"
    return {"person": str(person), "span": _when(span), "likely": likely, "start": str(start), "end": str(end)}


def _when(span: SuspiciousSpan) -> str:
    return f"from {clock(span.start_s)} to {clock(math.floor(span.end_s) + 1)}"


def _firm(result: VideoResult, number: int) -> str:
    likely = f"{100 * (result.p_fake or 0):.0f}% likely"
    if result.verdict is Verdict.FAKE:
        when = f", most of all at {clock(result.peak_time_s or 0)}"
        return f"Person {number} looks synthetic ({likely}){', by this one picture' if result.is_picture else when}."
    if result.is_picture:
        return f"No clear sign of a synthetic face in this one picture ({likely} for the most suspicious one)."
    if sum(track.lasting and not track.doubt for track in result.tracks) > 1:
        return f"Nobody seen for long looks synthetic ({likely} for the most suspicious person)."
    return f"No clear sign of a synthetic face ({likely} to be one)."


def _standing(track: Track, thresholds: Thresholds) -> tuple[Word, str]:
    if track.p_fake is None or not track.lasting:
        return Word.UNSCORED if track.p_fake is None else Word.TOO_FEW, "seen too briefly to decide"
    if track.doubt:
        return Word.BETWEEN, _DOUBTED[track.doubt]
    if track.suspicious_span:
        return Word.BETWEEN, f"looks synthetic {_when(track.suspicious_span)}"
    if track.p_fake >= thresholds.fake_above:
        return Word.FAKE, "looks synthetic"
    if track.p_fake < thresholds.real_below:
        return Word.REAL, "no clear sign of a synthetic face"
    return Word.BETWEEN, "between the thresholds"


def reason_words(reason: Reason | str | None, *, picture: bool = False) -> str:
    """Why a verdict is inconclusive in a few words; empty without a reason.

    Example:
        >>> reason_words("frames_disagree")
        'the frames disagree'
    """
    return (_WHY_OF_A_PICTURE if picture else _WHY)[Reason(reason)].short if reason else ""


def note_words(note: str) -> str:
    """Return why a row of the timeline has no score; empty if it has one."""
    return _NOTES.get(note, note)


def caveats(result: VideoResult, provenance: Provenance) -> list[str]:
    """List what affects the certainty of the verdict, in plain sentences.

    Args:
        result: result with status ``ok``.
        provenance: provenance of the result.
    """
    found = [_calibration(result, provenance), provenance.measured, _coverage(result)]
    ranked = by_suspicion(result)
    if result.is_picture:
        found.append(ONE_VIEW)
    elif ranked and ranked[0].logit is not None:
        found.append(_spread(result, ranked[0]))
    doubted = sum(track.lasting and track.doubt is not None for track in result.tracks)
    if doubted and not result.reason:
        whose = "one person's faces" if doubted == 1 else f"{doubted} people's faces"
        found.append(
            f"The scores of {whose} say too little to count: they are too small, or unlike those that the detector "
            "knows."
        )
    brief = sum(not track.lasting for track in result.tracks)
    if brief and not result.is_picture:
        who = "One person was" if brief == 1 else f"{brief} people were"
        found.append(f"{who} seen too briefly, or too blurred, to decide anything.")
    return [
        *(caveat for caveat in found if caveat),
        *(warning[:1].upper() + warning[1:] + "." for warning in result.warnings),
    ]


def _calibration(result: VideoResult, provenance: Provenance) -> str:
    if result.p_fake is None:
        return ""
    if not provenance.calibrated_on:
        return "This detector was never calibrated: its p_fake orders faces by suspicion, but is no probability."
    return (
        f"p_fake is a probability that was calibrated on {provenance.calibrated_on}. On other footage (strong "
        "compression, screen recordings, filters, newer generators) it can be far off."
    )


def _coverage(result: VideoResult) -> str:
    faces = sum(row.track is not None for row in result.timeline)
    fit = ""
    if faces:
        fit = f"; {result.faces_scored} of {faces} face{'s were' if faces > 1 else ' was'} fit to be scored"
        if result.faces_blurry:
            fit += f", {result.faces_blurry} too blurry"
    if result.is_picture:
        return f"The picture shows {faces or 'no'} face{'' if faces == 1 else 's'}{fit}."
    frames = len({(row.time_s, row.frame) for row in result.timeline})
    with_face = len({(row.time_s, row.frame) for row in result.timeline if row.track is not None})
    of = "the one frame" if frames == 1 else f"the {frames} frames"
    shown = f"{with_face} of {of} sampled show{'s' if with_face == 1 else ''} a face"
    return f"{shown}{fit}. What lies between these frames was not examined."


def _spread(result: VideoResult, track: Track) -> str:
    scores = [row.p_fake for row in result.timeline if row.track == track.number and row.p_fake is not None]
    if len(scores) < 4:
        return f"The score of person {track.number} rests on {len(scores)} face{'s' if len(scores) > 1 else ''} alone."
    low, _, high = (score(value) for value in statistics.quantiles(scores, n=4, method="inclusive"))
    where = f"are about {low}" if low == high else f"lie between {low} and {high}"
    return f"Half of the {len(scores)} scores of person {track.number} {where}."


def deciding(result: VideoResult) -> int:
    """Return the number of the track that a firm verdict rests on."""
    lasting = [track for track in result.tracks if track.lasting and not track.doubt]
    return max(lasting, key=lambda track: track.logit or 0.0).number


def by_suspicion(result: VideoResult) -> list[Track]:
    """Sort the tracks of a result: first the deciding one, then lasting ones, each group by suspicion."""
    first = deciding(result) if result.verdict in (Verdict.FAKE, Verdict.REAL) else None
    return sorted(
        result.tracks, key=lambda t: (t.number != first, not t.lasting, t.logit is None, -(t.logit or 0.0), t.number)
    )


def score(p_fake: float | None) -> str:
    """Format a probability, such as ``0.88``; return an empty string for None."""
    return "" if p_fake is None else f"{p_fake:.2f}"


def apart(low: float, high: float) -> tuple[str, str]:
    """Format two probabilities with enough decimals, at least two, to distinguish them.

    Example:
        >>> apart(0.3, 0.7), apart(0.9961, 0.9987)
        (('0.30', '0.70'), ('0.996', '0.999'))
    """
    for digits in (2, 3, 4):
        texts = f"{low:.{digits}f}", f"{high:.{digits}f}"
        if texts[0] != texts[1]:
            return texts
    return score(low), score(high)


def clock(seconds: float) -> str:
    """Format seconds as m:ss or h:mm:ss.

    Example:
        >>> clock(75.9), clock(3605)
        ('1:15', '1:00:05')
    """
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def geometry(info: VideoInfo) -> list[str]:
    """Format the known ones of size, frame rate and duration of a video."""
    facts = [f"{info.width}x{info.height}"]
    if info.fps is not None:
        facts.append(f"{float(info.fps):.4g} fps")
    if info.duration_s is not None:
        facts.append(clock(info.duration_s))
    return facts


# Marks that reorder text, with which a name could imitate another one.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

_ESCAPE = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]")


def safe(text: str) -> str:
    r"""Put untrusted text on one line, without terminal controls and reordering; undecodable bytes become ``\xNN``.

    Example:
        >>> safe("a\x1b[31m\u202eb\nc")
        'ab c'
    """
    return "".join(_safe_character(character) for character in _ESCAPE.sub("", text))


def _safe_character(character: str) -> str:
    if character in "\t\n\r\u2028\u2029":
        return " "
    category = unicodedata.category(character)
    if category == "Cs":
        code = ord(character)
        return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
    return "" if category == "Cc" or character in _BIDI else character
