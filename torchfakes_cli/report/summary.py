"""The words of a result: headline, reasons, next steps, people and caveats, for terminal, pages and clips.

Renderers take their words from here and add only layout. Codes such as ``frames_disagree`` are for machine-readable
columns; ``reason_words`` gives their words for people.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from torchfakes_cli.facts import CredentialsState
from torchfakes_cli.records import ErrorRates, Reason, SuspiciousSpan, Track, Verdict, VideoResult
from torchfakes_cli.report.formatting import apart, clock, score

#: Shown where many verdicts stand together; beside a single one stands its ``Summary.proof``.
CAVEAT = "A low score is no proof of authenticity."

#: What a verdict doesn't prove.
_PROOF = {
    Verdict.FAKE: "A high score is no proof of forgery.",
    Verdict.REAL: "No sign of a synthetic face was found. That is no proof of authenticity.",
    Verdict.INCONCLUSIVE: "Inconclusive means undecided: no proof of forgery, and none of authenticity.",
}

#: Shown beside the verdict on a still picture.
ONE_VIEW = "A single view of a face tells less than a video. The detector was calibrated and tested on videos only."

#: True of every detector that this program runs.
LIMITS = (
    CAVEAT,
    "A high score is no proof of forgery: genuine videos can be called fake, the more often the less they "
    "resemble what the detector was trained on.",
    "It looks for swapped faces and animated portraits, frame by frame. It doesn't listen, doesn't judge movement, and "
    "wasn't made for fully generated scenes, manipulated bodies or drawings.",
    "Use it to decide where to look closer, beside the source, the context and other tools; never alone to accuse "
    "anyone.",
)

#: What a check for Content Credentials (C2PA) found; None if the file couldn't be checked.
CREDENTIALS = {
    None: "Not checked: the file couldn't be opened again after the scan.",
    CredentialsState.NOT_LOOKED: "Not checked: pip install 'torchfakes[c2pa]' adds the official library.",
    CredentialsState.UNSUPPORTED: "Not looked for: the library doesn't read this format.",
    CredentialsState.NONE: "The file has none. Most files have none; that says nothing about them.",
    CredentialsState.UNREADABLE: "The file has some, but they can't be read.",
    CredentialsState.INVALID: "They don't hold: the file or they themselves were changed after signing, or the "
    "signature is faulty.",
    CredentialsState.VALID: "Intact: nothing was changed since they were signed. Who signed was not checked against a "
    "list of trusted signers, so the names in them are claims.",
    CredentialsState.TRUSTED: "Intact, and signed by somebody on a list of trusted signers.",
}

#: How the measured error rates relate to the calibration.
_TEST = (
    "In the test above, each video was judged by a calibration fitted without its people. Videos without a score count "
    "as undecided there, and don't count in the calibration."
)
#: People named in a headline; a list of all stands below it.
_NAMED = 12


@dataclass(frozen=True, slots=True)
class Provenance:
    """Provenance of a result: everything needed to reproduce it.

    Attributes:
        command: shell command; empty if there was none, as from Python.
        model_sha256: checksum of the checkpoint in hexadecimal; None if the file is unknown.
        calibrated_on: footage of the detector's calibration; empty if it isn't calibrated.
        settings: settings that determine the result, besides these, as (name, value).
    """

    version: str
    command: str
    model_sha256: str | None
    calibrated_on: str
    fake_above: float
    real_below: float
    settings: tuple[tuple[str, str], ...]


class _ReasonWords(NamedTuple):
    """Why a verdict is inconclusive: a few words, a sentence, what to do next, and options to try."""

    short: str
    sentence: str
    step: str
    options: str = ""


_LARGER = "Look for a larger version"
_COPY = "Copy or download the file again"
_MORE_FRAMES = "Try --fps to sample more frames."
_REASONS = {
    Reason.NO_FACE: _ReasonWords(
        "no face found",
        "No face was found in the {frames}.",
        "Watch the clip yourself",
        "Try --min-face for smaller faces, or --fps to sample more frames.",
    ),
    Reason.ALL_BLURRY: _ReasonWords(
        "all faces too blurry",
        "Faces were found, but none sharp enough to score.",
        "Look for a sharper version",
        f"{_MORE_FRAMES} --blur-threshold 0 scores them anyway.",
    ),
    Reason.TOO_FEW_FACES: _ReasonWords(
        "too few sharp faces",
        "Too few sharp faces of any one person for a firm verdict.",
        "Look for a longer or sharper version",
        _MORE_FRAMES,
    ),
    Reason.TINY_FACES: _ReasonWords(
        "faces too small",
        "The faces of person {person}, who scores highest, are too small for a firm verdict: most are smaller than any "
        "that the detector is known to judge.",
        _LARGER,
    ),
    Reason.DAMAGED: _ReasonWords("the video is damaged", "Too much of the video is damaged for a firm verdict.", _COPY),
    Reason.BETWEEN_THRESHOLDS: _ReasonWords(
        "between the thresholds",
        "The highest score is {score} (person {person}), between the thresholds (real below {real}, fake from {fake}).",
        "Look at {moment}",
    ),
    Reason.FRAMES_DISAGREE: _ReasonWords(
        "the frames disagree",
        "The frames disagree: person {person} scores {score} on average (real below {real}, fake from {fake}), but too "
        "many of their faces don't say the same.",
        "Look at the highest scores, such as at {moment}",
        _MORE_FRAMES,
    ),
    Reason.PART_OF_CLIP: _ReasonWords(
        "part of the clip",
        "Person {person} looks synthetic to this detector {span} (score {score} there, fake from {fake}), but not over "
        "the whole clip.",
        "Watch this part closely",
        "Scan it alone: --start {start} --end {end} --fps 8.",
    ),
}
_REASONS_OF_PICTURES = _REASONS | {
    Reason.NO_FACE: _ReasonWords(
        "no face found",
        "No face was found in the picture.",
        "Look at the picture yourself",
        "Try --min-face for smaller faces.",
    ),
    Reason.ALL_BLURRY: _REASONS[Reason.ALL_BLURRY]._replace(options="--blur-threshold 0 scores them anyway."),
    Reason.TINY_FACES: _ReasonWords(
        "faces too small",
        "The face of person {person}, who scores highest, is smaller than any that the detector is known to judge.",
        _LARGER,
    ),
    Reason.DAMAGED: _ReasonWords("the picture is damaged", "The picture is damaged.", _COPY),
    Reason.BETWEEN_THRESHOLDS: _REASONS[Reason.BETWEEN_THRESHOLDS]._replace(step="Look at the face closely"),
}

_NOTES = {
    "no_face": "no face",
    "blurry": "too blurry",
    "damaged": "damaged picture",
    "long_shot": "not scored: late in a long shot only some faces are",
}


class Word(StrEnum):
    """Meaning of a person's score, in a word or two."""

    FAKE = "fake"
    REAL = "real"
    BETWEEN = "inconclusive"
    TOO_FEW = "too few faces"
    UNSCORED = "no score"


@dataclass(frozen=True, slots=True)
class Person:
    """Track with the meaning of its score, as a word and as a clause; a firm verdict rests on who ``decides``."""

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
        real_below: threshold of the verdict real, with as many decimals as distinguish it from the score.
        fake_above: threshold of the verdict fake, in the same form.
        short: basis of the verdict, or reason why it is inconclusive, in a few words.
        headline: what was measured, in a sentence or two.
        proof: what the verdict doesn't prove.
        measured: error rates of the detector in a sentence; empty if unknown.
        next_step: what to do next, in a sentence.
        options: options to try on the command line; empty if there are none.
        people: people, beginning with the deciding one, then lasting ones, the most suspicious first.
    """

    verdict: Verdict
    score: str
    real_below: str
    fake_above: str
    short: str
    headline: str
    proof: str
    measured: str
    next_step: str
    options: str
    people: tuple[Person, ...]

    @property
    def score_line(self) -> str:
        """Score beside the thresholds, such as ``score 0.88: real below 0.34, fake from 0.69``."""
        bounds = f"real below {self.real_below}, fake from {self.fake_above}"
        return f"score {self.score}: {bounds}" if self.score else bounds


def summarize(result: VideoResult) -> Summary:
    """Put a result with status ``ok`` into words."""
    assert result.fake_above is not None, "a scanned file has thresholds"
    assert result.real_below is not None, "a scanned file has thresholds"
    verdict = result.verdict or Verdict.INCONCLUSIVE
    ranked = by_suspicion(result)
    people = tuple(
        Person(track, *_standing(track, result, first=not place), decides=not place and not result.reason)
        for place, track in enumerate(ranked)
    )
    scores = [result.real_below, result.fake_above, *([] if result.p_fake is None else [result.p_fake])]
    real, fake, *own = apart(*scores)
    bounds = {"real": real, "fake": fake, "score": "".join(own)}
    thing = "picture" if result.is_picture else "clip"
    source = f"find the source of the {thing} (by a reverse image search)"
    options = ""
    if result.reason:
        why = (_REASONS_OF_PICTURES if result.is_picture else _REASONS)[result.reason]
        frames = "one frame sampled" if result.frames_sampled == 1 else f"{result.frames_sampled} frames sampled"
        person = str(ranked[0].number) if ranked else ""
        moment = clock(result.peak_time_s or 0)
        words = {**bounds, "frames": frames, "person": person, "moment": moment, **_part(result)}
        headline, options, short = why.sentence.format(**words), why.options.format(**words), why.short
        step = f"{why.step.format(**words)}, {source}, and try another tool."
    elif verdict is Verdict.FAKE:
        headline, short = _flagged(result, bounds), f"person{_numbers([track.number for track in result.flagged])}"
        moments = [f"{clock(track.peak_time_s or 0)} (person {track.number})" for track in result.flagged[:3]]
        where = "the face" if result.is_picture else _and(moments)
        step = f"Look closely at {where}, {source}, and try another tool."
    else:
        where = " in this one picture" if result.is_picture else ""
        headline = f"The highest score{where} is {''.join(own)} (person {ranked[0].number}; real below {real})."
        short = f"highest score: person {ranked[0].number}"
        step = f"If doubts remain, {source} and try another tool."
    measured = error_rates_sentence(result.error_rates) if result.error_rates else ""
    return Summary(verdict, "".join(own), real, fake, short, headline, _PROOF[verdict], measured, step, options, people)


def _flagged(result: VideoResult, bounds: dict[str, str]) -> str:
    """Name everybody above the threshold."""
    flagged, bound = result.flagged, f"(fake from {bounds['fake']})"
    peaks = ["" if result.is_picture else f", highest at {clock(track.peak_time_s or 0)}" for track in flagged]
    picture = ", by this one picture" if result.is_picture else ""
    if len(flagged) == 1:
        who = f"Person {flagged[0].number} looks synthetic to this detector"
        return f"{who}: score {bounds['score']} {bound}{peaks[0]}{picture}."
    named = [
        f"person {track.number} (score {score(track.p_fake)}{peak})"
        for track, peak in zip(flagged[:_NAMED], peaks, strict=False)
    ]
    named += [f"{len(flagged) - _NAMED} more"] if len(flagged) > _NAMED else []
    return f"{len(flagged)} people look synthetic to this detector {bound}{picture}: {_and(named)}."


def _and(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _numbers(numbers: Sequence[int]) -> str:
    return f"{'s' if len(numbers) > 1 else ''} {_and([str(number) for number in sorted(numbers)])}"


def _part(result: VideoResult) -> dict[str, str]:
    """Words on the most suspicious span; empty without one."""
    parts = [(track.suspicious_span, track.number) for track in result.tracks if track.suspicious_span]
    if not parts:
        return {}
    span, person = max(parts, key=lambda part: part[0].p_fake)
    seconds = {"start": f"{math.floor(span.start_s)}", "end": f"{math.floor(span.end_s) + 1}"}
    return {"person": str(person), "span": _when(span), "score": score(span.p_fake), **seconds}


def _when(span: SuspiciousSpan) -> str:
    return f"from {clock(span.start_s)} to {clock(math.floor(span.end_s) + 1)}"


def _standing(track: Track, result: VideoResult, *, first: bool) -> tuple[Word, str]:
    if track.p_fake is None or not track.lasting:
        return Word.UNSCORED if track.p_fake is None else Word.TOO_FEW, "seen too briefly to decide"
    if track.doubt:
        return Word.BETWEEN, "faces too small to decide"
    if track.suspicious_span:
        return Word.BETWEEN, f"looks synthetic {_when(track.suspicious_span)}"
    if result.reason is Reason.DAMAGED or (first and result.reason is Reason.FRAMES_DISAGREE):
        return Word.BETWEEN, reason_words(result.reason, picture=result.is_picture)
    if track in result.flagged:
        return Word.FAKE, "looks synthetic"
    if track.p_fake < (result.real_below or 0):
        return Word.REAL, "no sign of a synthetic face"
    return Word.BETWEEN, "between the thresholds"


def reason_words(reason: Reason | str | None, *, picture: bool = False) -> str:
    """Why a verdict is inconclusive in a few words; empty without a reason.

    Example:
        >>> reason_words("frames_disagree")
        'the frames disagree'
    """
    return (_REASONS_OF_PICTURES if picture else _REASONS)[Reason(reason)].short if reason else ""


def note_words(note: str) -> str:
    """Return why a row of the timeline has no score; empty if it has one."""
    return _NOTES.get(note, note)


def error_rates_sentence(rates: ErrorRates) -> str:
    """Describe false alarms and misses in one sentence."""
    genuine, fakes = sum(rates.genuine.values()), sum(rates.fakes.values())
    undecided = rates.genuine["inconclusive"] + rates.fakes["inconclusive"]
    return (
        f"In a cross-validated test on {rates.footage or 'held-out videos'}, this detector called "
        f"{rates.genuine['fake']} of {genuine} genuine videos fake (false alarms) and {rates.fakes['real']} of "
        f"{fakes} fakes real (misses); it found {rates.fakes['fake']} of the fakes, "
        f"and left {undecided} videos undecided."
    )


def error_rates_in_short(rates: ErrorRates) -> str:
    """Describe false alarms and misses in a few words."""
    genuine, fakes = sum(rates.genuine.values()), sum(rates.fakes.values())
    return f"In a test {rates.genuine['fake']} of {genuine} false alarms, {rates.fakes['real']} of {fakes} missed."


def caveats(result: VideoResult, calibrated_on: str) -> list[str]:
    """List what affects the certainty of a verdict, in plain sentences; ``calibrated_on`` is as in ``Provenance``."""
    found = [_calibration(calibrated_on) if result.p_fake is not None else "", _coverage(result)]
    if calibrated_on and result.error_rates:
        found.insert(1, _TEST)
    ranked = by_suspicion(result)
    if result.is_picture:
        found.append(ONE_VIEW)
    elif ranked and ranked[0].logit is not None:
        found.append(_spread(result, ranked[0]))
    doubted = sum(track.lasting and track.doubt is not None for track in result.tracks)
    if doubted and not result.reason:
        whose = "one person's faces" if doubted == 1 else f"{doubted} people's faces"
        found.append(f"The scores of {whose} say too little to count: the faces are too small.")
    brief = sum(not track.lasting for track in result.tracks)
    if brief and not result.is_picture:
        who = "One person was" if brief == 1 else f"{brief} people were"
        found.append(f"{who} seen too briefly, or too blurred, to decide anything.")
    return [
        *(caveat for caveat in found if caveat),
        *(warning[:1].upper() + warning[1:] + "." for warning in result.warnings),
    ]


def _calibration(calibrated_on: str) -> str:
    if not calibrated_on:
        return "This detector was never calibrated: its score (p_fake) orders faces by suspicion and means no more."
    return (
        f"The score (p_fake) was calibrated on {calibrated_on}. It isn't the probability that this file is fake: on "
        "other footage (strong compression, screen recordings, filters, newer generators) it can be far off."
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


def by_suspicion(result: VideoResult) -> list[Track]:
    """Sort the tracks of a result: first the one behind its score, then lasting ones, each group by suspicion."""
    firm = result.reason is None  # a doubted track gives no firm verdict
    return sorted(
        result.tracks,
        key=lambda track: (
            track.p_fake != result.p_fake,
            firm and track.doubt is not None,
            not track.lasting,
            track.logit is None,
            -(track.logit or 0.0),
            track.number,
        ),
    )
