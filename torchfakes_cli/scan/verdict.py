"""The policy: from the scores of faces to a verdict on a video. Nothing here needs the network, a video or torch.

The rules, in the order they apply:

1. Faces of one person in one shot form a *track*. In a long one not every face is scored (see ``scan.timeline``), and
   only the scored ones count. A track's logit is the trimmed mean of its scored faces, so that a
   few bad frames don't decide; its ``p_fake`` is the calibrated probability of that logit.
2. A track is *lasting* with at least ``min_faces`` scored faces. Where fewer frames than that were sampled (a very
   short clip, ``--frames 2``) a face in every one of them is enough, but never a single one (unless ``min_faces``
   itself is 1): one frame of a video, of which there are others to look at, gives no firm verdict. A *still picture* is
   all there is of its people, so a single face is enough in it, and its result says that it rests on one picture.
3. Faces in damaged pictures are not scored. Where more than half of the sampled frames are damaged, the verdict is
   inconclusive, ``damaged``: what is left says too little of the video.
4. A lasting track's score is *doubted*, and makes no firm verdict, where its scored faces are mostly tiny (the median
   of their shorter sides is under ``tiny_below`` pixels of the frame).
5. A video is as fake as its most suspicious lasting track:

   ==========================================  ============  ======================
   that track's ``p_fake``                     verdict       reason
   ==========================================  ============  ======================
   at least ``fake_above``                     fake
   below ``real_below``                        real
   between                                     inconclusive  ``between_thresholds``
   ==========================================  ============  ======================

   ... unless less than two thirds (``agreement``) of that track's scored faces would by themselves give the same
   verdict: then it is inconclusive, ``frames_disagree``. Where that track is doubted, the verdict is inconclusive,
   ``tiny_faces``, unless an undoubted lasting track scores at least ``fake_above`` too: then the most suspicious of
   these decides.

6. Part of a clip may be fake: it says little in the mean over a track. Every window of a lasting, undoubted track is
   scored as a track is, by trimmed mean and agreement. A window holds ``WINDOW_FACES`` scored faces in a row, or those
   of ``WINDOW_S`` seconds where these are more. Where no whole track reaches ``fake_above`` but a window does, the
   verdict is inconclusive, ``part_of_clip``, and the track has a ``suspicious_span``. A window never makes a firm
   verdict: a long clip has many of them, one of which may score high by chance.
7. Without a lasting track the verdict is inconclusive: ``no_face`` where no face was found, ``all_blurry`` where none
   was sharp enough to score, else ``too_few_faces``.

Where a track has a score, ``p_fake`` is told with every reason, for information: that of the most suspicious track,
lasting ones first.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from torchfakes_cli.errors import ModelError, UsageError
from torchfakes_cli.records import FaceScore, Reason, SuspiciousSpan, Track, Verdict
from torchfakes_cli.scan.config import AGREEMENT, TINY_BELOW, VerdictConfig

#: Scored faces in a window, at least, and its seconds. With a detector whose thresholds are 0.5, the rule of windows
#: took 1 of 73 right verdicts "real" on genuine clips away. It found 167 of 267 timelines that had been called real
#: though 6 to 8 of their some 30 scores were those of a fake.
WINDOW_FACES = 6
WINDOW_S = 2.0


@dataclass(frozen=True, slots=True)
class Policy:
    """The numbers behind a verdict, all of them settled.

    Attributes:
        fake_above: from this probability on a video is fake.
        real_below: below this probability it is real.
        min_faces: scored faces that make a track lasting.
        trim: share of a track's highest and of its lowest logits left out of its mean.
        agreement: share of the deciding track's faces that must say the same by themselves.
        tiny_below: a track whose scored faces are mostly smaller than so many pixels is doubted.
    """

    fake_above: float
    real_below: float
    min_faces: int
    trim: float
    agreement: float = AGREEMENT
    tiny_below: float = TINY_BELOW

    def __post_init__(self) -> None:
        if self.real_below > self.fake_above:
            raise UsageError(
                f"the threshold for real ({self.real_below:g}) exceeds the one for fake ({self.fake_above:g})",
                advice="Give both.",
            )


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says of a video.

    Attributes:
        verdict: real, fake or inconclusive.
        reason: why it is inconclusive; None otherwise.
        p_fake: of the track that decided, or would have with more faces; None where nothing was scored.
        peak_time_s: time of that track's most suspicious face; None with ``p_fake``.
        tracks: in order of first appearance.
    """

    verdict: Verdict
    reason: Reason | None
    p_fake: float | None
    peak_time_s: float | None
    tracks: tuple[Track, ...]


def settle_policy(config: VerdictConfig, *, fake_above: float, real_below: float) -> Policy:
    """The user's policy, with the detector's own thresholds where the user set none.

    Args:
        config: what the user asked for.
        fake_above: the detector's own threshold for fake.
        real_below: the detector's own threshold for real.

    Raises:
        UsageError: the two thresholds that result contradict each other.
    """
    return Policy(
        fake_above=fake_above if config.fake_above is None else config.fake_above,
        real_below=real_below if config.real_below is None else config.real_below,
        min_faces=config.min_faces,
        trim=config.trim,
        agreement=config.agreement,
        tiny_below=config.tiny_below,
    )


def decide(
    timeline: Sequence[FaceScore],
    policy: Policy,
    probability: Callable[[float], float],
    *,
    picture: bool = False,
) -> Decision:
    """Applies the rules above.

    Args:
        timeline: one row a face and one for each sampled frame without any, in order of time.
        policy: the numbers.
        probability: the detector's calibration, from a logit to ``p_fake``; must not decrease.
        picture: the timeline is that of a still picture.

    Raises:
        ModelError: a score is not a finite number; a verdict from it would be made up.
    """
    tracks = build_tracks(timeline, policy, probability, picture=picture)
    best = deciding_track(tracks, policy)
    verdict, reason = Verdict.INCONCLUSIVE, _excuse(timeline, tracks) or (best.doubt if best else None)
    if reason is None and best is not None:
        low, high = agreed_bounds([row.logit for row in timeline if row.track == best.number], policy.agreement)
        window = window_logit(timeline, tracks, policy)
        verdict, reason = judge(
            best.p_fake,
            policy,
            low=probability(low),
            high=probability(high),
            window=None if window is None else probability(window),
        )
    return Decision(verdict, reason, best.p_fake if best else None, best.peak_time_s if best else None, tracks)


def _excuse(timeline: Sequence[FaceScore], tracks: Sequence[Track]) -> Reason | None:
    """Rules 3 and 7: why there can't be a firm verdict; None where there can."""
    frames = {(row.time_s, row.frame) for row in timeline}
    damaged = {(row.time_s, row.frame) for row in timeline if row.note == "damaged"}
    if 2 * len(damaged) > len(frames):
        return Reason.DAMAGED
    if any(track.lasting for track in tracks):
        return None
    if any(track.logit is not None for track in tracks):
        return Reason.TOO_FEW_FACES
    if any(row.note == "blurry" for row in timeline):
        return Reason.ALL_BLURRY
    return Reason.DAMAGED if tracks else Reason.NO_FACE


def judge(
    p_fake: float | None,
    policy: Policy,
    *,
    low: float | None = None,
    high: float | None = None,
    window: float | None = None,
) -> tuple[Verdict, Reason | None]:
    """Rules 5 and 6: the verdict on a lasting track that isn't doubted.

    Args:
        p_fake: of the track.
        policy: the numbers.
        low: the probability that enough of its faces reach to agree on "fake", see ``agreed_bounds``; None judges by
            ``p_fake`` alone.
        high: the one that enough of them stay at or under to agree on "real"; None likewise.
        window: that of the most suspicious window of any track, see ``window_logit``; None where there is no window.
    """
    if p_fake is None:
        raise ValueError("a lasting track has a score")
    if p_fake >= policy.fake_above:
        agreed, verdict = low is None or low >= policy.fake_above, Verdict.FAKE
    elif window is not None and window >= policy.fake_above:
        return Verdict.INCONCLUSIVE, Reason.PART_OF_CLIP
    elif p_fake < policy.real_below:
        agreed, verdict = high is None or high < policy.real_below, Verdict.REAL
    else:
        return Verdict.INCONCLUSIVE, Reason.BETWEEN_THRESHOLDS
    return (verdict, None) if agreed else (Verdict.INCONCLUSIVE, Reason.FRAMES_DISAGREE)


def agreed_bounds(logits: Iterable[float | None], agreement: float) -> tuple[float, float]:
    """Between what logits enough faces of a track lie.

    Args:
        logits: of its faces; None or NaN for one without a score, which agrees with nothing.
        agreement: the share that is enough.

    Returns:
        (low, high): that share of the faces has at least the logit ``low``, and that share at most ``high``; without
        any score, the infinities that no verdict agrees with.

    Example:
        >>> agreed_bounds([-1.0, 0.0, 5.0], 2 / 3)
        (0.0, 0.0)
    """
    ordered = sorted(value for value in logits if value is not None and not math.isnan(value))
    if not ordered:
        return -math.inf, math.inf
    # The small amount keeps two thirds of three at two.
    enough = max(1, math.ceil(agreement * len(ordered) - 1e-9))
    return ordered[len(ordered) - enough], ordered[enough - 1]


def deciding_track(tracks: Iterable[Track], policy: Policy) -> Track | None:
    """The track that a verdict rests on, or would with more faces; None where nothing was scored."""
    scored = [track for track in tracks if track.logit is not None]
    candidates = [track for track in scored if track.lasting] or scored
    if not candidates:
        return None
    best = most_suspicious(candidates)
    clearly_fake = [
        track
        for track in candidates
        if not track.doubt and track.p_fake is not None and track.p_fake >= policy.fake_above
    ]
    return most_suspicious(clearly_fake) if best.lasting and best.doubt and clearly_fake else best


def most_suspicious(tracks: Iterable[Track]) -> Track:
    """The track with the highest logit; the first of equals."""
    return max(tracks, key=lambda track: -math.inf if track.logit is None else track.logit)


def build_tracks(
    timeline: Sequence[FaceScore],
    policy: Policy,
    probability: Callable[[float], float],
    *,
    picture: bool = False,
) -> tuple[Track, ...]:
    """Rules 1, 2, 4 and 6: gathers rows by track number and scores each track.

    Raises:
        ModelError: a score is not a finite number.
    """
    rows_of: dict[int, list[FaceScore]] = {}
    for row in timeline:
        if row.track is not None:
            rows_of.setdefault(row.track, []).append(row)
    frames_sampled = len({(row.time_s, row.frame) for row in timeline})
    needed = 1 if picture else min(policy.min_faces, max(2, frames_sampled))
    return tuple(_score_track(number, rows, needed, policy, probability) for number, rows in sorted(rows_of.items()))


def _score_track(
    number: int, rows: Sequence[FaceScore], needed: int, policy: Policy, probability: Callable[[float], float]
) -> Track:
    scored = [(row.logit, row.time_s) for row in rows if row.logit is not None]
    logit = trimmed_mean([value for value, _ in scored], policy.trim) if scored else None
    p_fake = None if logit is None else _finite(probability(logit))
    lasting = len(scored) >= needed
    doubt = _doubt([row for row in rows if row.logit is not None], policy) if lasting else None
    decides = lasting and doubt is None
    return Track(
        number=number,
        start_s=min(row.time_s for row in rows),
        end_s=max(row.time_s for row in rows),
        faces=len(rows),
        faces_scored=len(scored),
        logit=logit,
        p_fake=p_fake,
        # Of faces equally suspicious, the first one.
        peak_time_s=max(scored, key=lambda face: (face[0], -face[1]))[1] if scored else None,
        lasting=lasting,
        doubt=doubt,
        suspicious_span=_suspicious_span(rows, policy, probability)
        if decides and p_fake is not None and p_fake < policy.fake_above
        else None,
    )


def window_logit(timeline: Sequence[FaceScore], tracks: Iterable[Track], policy: Policy) -> float | None:
    """The highest logit that a window reaches by its trimmed mean and by enough of its faces.

    Args:
        timeline: of the video.
        tracks: of the video; those that are lasting and undoubted count.
        policy: the numbers.

    Returns:
        The logit; None where no track is longer than a window.
    """
    numbers = {track.number for track in tracks if track.lasting and not track.doubt}
    rows_of: dict[int, list[FaceScore]] = {number: [] for number in numbers}
    for row in timeline:
        if row.track in rows_of:
            rows_of[row.track].append(row)
    reached = [_reached(window, policy) for rows in rows_of.values() for window in _windows(rows)]
    return max(reached, default=None)


def _windows(rows: Iterable[FaceScore]) -> Iterator[list[tuple[float, float]]]:
    """The (time, logit) of the faces in each window of a track; none where a window would hold the whole track."""
    scored = [(row.time_s, row.logit) for row in rows if row.logit is not None]
    end = 0
    for start, (time_s, _) in enumerate(scored):
        end = max(end, start + WINDOW_FACES)
        while end < len(scored) and scored[end][0] - time_s <= WINDOW_S:
            end += 1
        if end - start < len(scored) >= end:
            yield scored[start:end]
        if end >= len(scored):
            return


def _reached(window: Sequence[tuple[float, float]], policy: Policy) -> float:
    logits = [logit for _, logit in window]
    return min(trimmed_mean(logits, policy.trim), agreed_bounds(logits, policy.agreement)[0])


def _suspicious_span(
    rows: Sequence[FaceScore], policy: Policy, probability: Callable[[float], float]
) -> SuspiciousSpan | None:
    """Rule 6: the most suspicious window that reaches ``fake_above``, with those that overlap it and do so too."""
    found: list[list[tuple[float, float]]] = []
    best, best_logit = 0, -math.inf
    for window in _windows(rows):
        reached = _reached(window, policy)
        if probability(reached) < policy.fake_above:
            continue
        if found and window[0] <= found[-1][-1]:
            found[-1] = sorted({*found[-1], *window})
        else:
            found.append(window)
        if reached > best_logit:
            best, best_logit = len(found) - 1, reached
    if not found:
        return None
    times = [time_s for time_s, logit in found[best] if probability(logit) >= policy.fake_above]
    return SuspiciousSpan(times[0], times[-1], probability(best_logit))


def _doubt(scored: Sequence[FaceScore], policy: Policy) -> Reason | None:
    """Rule 4, of a track's scored faces."""
    sizes = [row.face.size for row in scored if row.face]
    return Reason.TINY_FACES if sizes and statistics.median(sizes) < policy.tiny_below else None


def trimmed_mean(logits: Sequence[float], trim: float) -> float:
    """The mean without the highest and the lowest share of the values.

    The share is rounded up, as long as a value is left: three faces give their median, so one bad frame among them does
    no harm; with ``trim`` 0 it is the plain mean.

    Args:
        logits: at least one.
        trim: share left out at each end, in [0, 0.5).

    Raises:
        ModelError: one of them is not a finite number.

    Example:
        >>> trimmed_mean([1.0, 2.0, 90.0], trim=0.1)
        2.0
    """
    ordered = sorted(_finite(value) for value in logits)
    # The small amount keeps 0.1 × 30 at 3, which floating point puts a hair above.
    left_out = min(math.ceil(trim * len(ordered) - 1e-9), (len(ordered) - 1) // 2)
    kept = ordered[left_out : len(ordered) - left_out]
    return math.fsum(kept) / len(kept)


def _finite(score: float) -> float:
    if not math.isfinite(score):
        raise ModelError(
            f"the detector scored a face as {score}, which is no number",
            advice="The checkpoint is likely damaged: choose another one with --model, or try --device cpu.",
        )
    return score
