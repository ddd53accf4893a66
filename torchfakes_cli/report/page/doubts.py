"""What stands beside a verdict: how far it can be trusted, and what the detector can't do."""

from __future__ import annotations

import statistics

from torchfakes_cli.records import Circumstances, Track, VideoResult
from torchfakes_cli.report.words import CAVEAT, ONE_VIEW, by_suspicion

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


def doubts(result: VideoResult, circumstances: Circumstances) -> list[str]:
    """What makes this verdict more or less certain, in plain sentences.

    Args:
        result: with status ``ok``.
        circumstances: of the scan.
    """
    found = [_calibration(result, circumstances), circumstances.measured, _coverage(result)]
    if result.is_picture:
        found.append(ONE_VIEW)
    ranked = by_suspicion(result)
    if ranked and ranked[0].logit is not None and not result.is_picture:
        found.append(_spread(result, ranked[0]))
    doubted = sum(track.lasting and track.doubt is not None for track in result.tracks)
    if doubted and not result.reason:
        whose = "one person's faces" if doubted == 1 else f"{doubted} people's faces"
        found.append(f"The scores of {whose} say too little to count: they are too small, or unlike what it knows.")
    brief = sum(not track.lasting for track in result.tracks)
    if brief and not result.is_picture:
        who = "One person was" if brief == 1 else f"{brief} people were"
        found.append(f"{who} seen too briefly, or too blurred, to decide anything.")
    return [
        *(doubt for doubt in found if doubt),
        *(warning[:1].upper() + warning[1:] + "." for warning in result.warnings),
    ]


def _calibration(result: VideoResult, circumstances: Circumstances) -> str:
    if result.p_fake is None:
        return ""
    if not circumstances.calibrated_on:
        return "This detector was never calibrated: its p_fake orders faces by suspicion, but is no probability."
    return (
        f"p_fake is a probability that was calibrated on {circumstances.calibrated_on}. On other footage (strong "
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
    shown = f"{with_face} of {of} looked at show{'s' if with_face == 1 else ''} a face"
    return f"{shown}{fit}. What lies between these frames was not looked at."


def _spread(result: VideoResult, track: Track) -> str:
    scores = [row.p_fake for row in result.timeline if row.track == track.number and row.p_fake is not None]
    if len(scores) < 4:
        return f"The score of person {track.number} rests on {len(scores)} face{'s' if len(scores) > 1 else ''} alone."
    low, _, high = statistics.quantiles(scores, n=4, method="inclusive")
    return f"Half of the {len(scores)} scores of person {track.number} lie between {low:.2f} and {high:.2f}."
