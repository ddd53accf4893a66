"""The policy, as its docstring states it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchfakes_cli.errors import ModelError, UsageError
from torchfakes_cli.records import Face, FaceScore, Reason, Verdict
from torchfakes_cli.scan.config import VerdictConfig
from torchfakes_cli.scan.verdict import Decision, Policy, decide, settle_policy, trimmed_mean

POLICY = Policy(fake_above=0.7, real_below=0.3, min_faces=3, trim=0.1)
FACE = Face((0.0, 0.0, 60.0, 70.0), 0.99, ((0.0, 0.0),) * 5)
BLURRY = None


def probability(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def timeline(people: dict[int, Sequence[float | None]], frames: int = 0) -> list[FaceScore]:
    """One row a second for each person (track number → logits, None where blurry); empty frames up to ``frames``."""
    rows = []
    for second in range(max([frames, *map(len, people.values())])):
        seen = [(track, scores[second]) for track, scores in people.items() if second < len(scores)]
        if not seen:
            rows.append(FaceScore(float(second), second, note="no_face"))
        for track, score in seen:
            p_fake = None if score is None else probability(score)
            note = "blurry" if score is None else ""
            rows.append(FaceScore(float(second), second, track, FACE, 50.0, score, p_fake, note))
    return rows


def damaged(second: int, track: int | None = None) -> FaceScore:
    return FaceScore(float(second), second, track, FACE if track else None, 50.0 if track else None, note="damaged")


def verdict_on(people: dict[int, Sequence[float | None]], frames: int = 10, policy: Policy = POLICY) -> Decision:
    return decide(timeline(people, frames), policy, probability)


@pytest.mark.parametrize(
    ("people", "verdict", "reason"),
    [
        ({}, Verdict.INCONCLUSIVE, Reason.NO_FACE),
        ({1: [BLURRY] * 5}, Verdict.INCONCLUSIVE, Reason.ALL_BLURRY),
        ({1: [5.0, 5.0]}, Verdict.INCONCLUSIVE, Reason.TOO_FEW_FACES),
        ({1: [5.0, 5.0, BLURRY, BLURRY]}, Verdict.INCONCLUSIVE, Reason.TOO_FEW_FACES),
        ({1: [-5.0], 2: [-5.0], 3: [-5.0]}, Verdict.INCONCLUSIVE, Reason.TOO_FEW_FACES),
        ({1: [5.0] * 3}, Verdict.FAKE, None),
        ({1: [-5.0] * 3}, Verdict.REAL, None),
        ({1: [0.0] * 3}, Verdict.INCONCLUSIVE, Reason.BETWEEN_THRESHOLDS),
        ({1: [-5.0] * 9, 2: [5.0] * 3}, Verdict.FAKE, None),
        ({1: [5.0] * 6 + [-1.0] * 3}, Verdict.FAKE, None),
        ({1: [5.0] * 5 + [-1.0] * 4}, Verdict.INCONCLUSIVE, Reason.FRAMES_DISAGREE),
        ({1: [-5.0] * 6 + [0.0] * 3 + [BLURRY] * 3}, Verdict.REAL, None),
        ({1: [-5.0] * 5 + [0.0] * 4}, Verdict.INCONCLUSIVE, Reason.FRAMES_DISAGREE),
        ({1: [-5.0] * 9, 2: [5.0] * 2}, Verdict.REAL, None),
        ({1: [-5.0] * 9, 2: [BLURRY] * 9}, Verdict.REAL, None),
    ],
)
def test_verdicts_and_reasons(
    people: dict[int, Sequence[float | None]], verdict: Verdict, reason: Reason | None
) -> None:
    decision = verdict_on(people)
    assert (decision.verdict, decision.reason) == (verdict, reason)


@pytest.mark.parametrize(("p", "verdict"), [(0.7, Verdict.FAKE), (0.3, Verdict.INCONCLUSIVE)])
def test_the_thresholds_themselves(p: float, verdict: Verdict) -> None:
    decision = decide(timeline({1: [0.0] * 3}), POLICY, lambda _: p)
    assert decision.verdict is verdict


def test_one_threshold_leaves_nothing_between() -> None:
    policy = settle_policy(VerdictConfig(fake_above=0.5, real_below=0.5), fake_above=0.9, real_below=0.1)
    for score in (-0.01, 0.0, 0.01):
        assert verdict_on({1: [score] * 3}, policy=policy).verdict is (Verdict.FAKE if score >= 0 else Verdict.REAL)


def test_the_detectors_thresholds_hold_where_the_user_gave_none() -> None:
    policy = settle_policy(VerdictConfig(), fake_above=0.9, real_below=0.1)
    assert (policy.fake_above, policy.real_below) == (0.9, 0.1)
    with pytest.raises(UsageError, match="exceeds"):
        settle_policy(VerdictConfig(fake_above=0.05), fake_above=0.9, real_below=0.1)


def test_no_score_is_made_up() -> None:
    for people in ({}, {1: [BLURRY] * 4}):
        decision = verdict_on(people)
        assert decision.p_fake is None
        assert decision.peak_time_s is None


def test_too_few_faces_still_tell_their_score_as_information() -> None:
    decision = verdict_on({1: [-1.0], 2: [2.0, 2.0]})
    assert decision.p_fake == pytest.approx(probability(2.0))


@pytest.mark.parametrize(("frames", "lasting"), [(1, False), (2, True), (3, False)])
def test_a_very_short_clip_needs_a_face_in_every_frame_but_never_one_alone(frames: int, lasting: bool) -> None:
    scores = [5.0] * min(frames, 2)
    (track,) = verdict_on({1: scores}, frames=frames).tracks
    assert track.lasting is lasting


def test_the_peak_is_the_most_suspicious_moment_of_the_deciding_track() -> None:
    decision = verdict_on({1: [1.0, 4.0, 2.0, 4.0], 2: [-9.0, 3.0]})
    assert decision.peak_time_s == 1.0


def test_one_bad_frame_changes_no_verdict() -> None:
    assert verdict_on({1: [-3.0, -3.0, 50.0]}).verdict is Verdict.REAL
    assert verdict_on({1: [3.0] * 9 + [-50.0]}).verdict is Verdict.FAKE


def test_tracks_tell_when_who_was_seen() -> None:
    decision = verdict_on({2: [BLURRY, 1.0, 1.0, 1.0], 1: [0.0]})
    first, second = decision.tracks
    assert (first.number, first.faces, first.faces_scored, first.end_s) == (1, 1, 1, 0.0)
    assert (second.start_s, second.end_s, second.faces, second.faces_scored) == (0.0, 3.0, 4, 3)
    assert second.lasting
    assert not first.lasting


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_gives_no_verdict(bad: float) -> None:
    rows = [FaceScore(float(second), second, 1, FACE, 50.0, bad, 0.5) for second in range(5)]
    with pytest.raises(ModelError, match="isn't a finite number"):
        decide(rows, POLICY, probability)


LOGITS = st.lists(st.floats(-20, 20), min_size=1, max_size=60)


@given(LOGITS)
def test_the_trimmed_mean_lies_among_the_values_and_knows_no_order(logits: list[float]) -> None:
    mean = trimmed_mean(logits, 0.1)
    assert min(logits) - 1e-9 <= mean <= max(logits) + 1e-9
    assert mean == trimmed_mean(logits[::-1], 0.1)


@given(LOGITS)
def test_without_trimming_it_is_the_mean(logits: list[float]) -> None:
    assert trimmed_mean(logits, 0.0) == pytest.approx(statistics.fmean(logits), abs=1e-9)


@pytest.mark.parametrize(("count", "left_out"), [(1, 0), (2, 0), (3, 1), (10, 1), (11, 2), (30, 3)])
def test_how_many_are_left_out(count: int, left_out: int) -> None:
    values = [float(value**2) for value in range(count)]
    assert trimmed_mean(values, 0.1) == pytest.approx(statistics.fmean(values[left_out : count - left_out]))


@given(st.lists(st.floats(-8, 8), min_size=3, max_size=20), st.floats(0, 4))
def test_more_suspicious_faces_never_make_a_video_less_fake(logits: list[float], more: float) -> None:
    order = [Verdict.REAL, Verdict.INCONCLUSIVE, Verdict.FAKE]
    before, after = verdict_on({1: logits}), verdict_on({1: [value + more for value in logits]})
    assert order.index(after.verdict) >= order.index(before.verdict)


def test_a_video_that_is_mostly_damaged_gets_no_firm_verdict() -> None:
    whole = timeline({1: [5.0] * 5})
    half = decide([*whole, *(damaged(second, 1) for second in range(5, 10))], POLICY, probability)
    more = decide([*whole, *(damaged(second, 1) for second in range(5, 11))], POLICY, probability)
    assert (half.verdict, half.reason) == (Verdict.FAKE, None)
    assert (more.verdict, more.reason) == (Verdict.INCONCLUSIVE, Reason.DAMAGED)
    assert more.p_fake == half.p_fake == pytest.approx(probability(5.0))


def test_a_face_in_damaged_pictures_alone_is_not_called_absent() -> None:
    decision = decide([damaged(0, 1), *timeline({}, 4)[1:]], POLICY, probability)
    assert (decision.verdict, decision.reason, decision.p_fake) == (Verdict.INCONCLUSIVE, Reason.DAMAGED, None)


def test_a_still_picture_is_judged_by_the_one_face_it_has_of_each() -> None:
    rows = timeline({1: [2.0], 2: [-3.0], 3: [BLURRY]})
    decision = decide(rows, POLICY, probability, picture=True)
    assert (decision.verdict, decision.p_fake) == (Verdict.FAKE, probability(2.0))
    assert [track.lasting for track in decision.tracks] == [True, True, False]
    assert decide(rows, POLICY, probability).reason is Reason.TOO_FEW_FACES
    assert decide(timeline({1: [BLURRY]}), POLICY, probability, picture=True).reason is Reason.ALL_BLURRY
    assert decide([damaged(0, 1)], POLICY, probability, picture=True).reason is Reason.DAMAGED


def doubted(rows: list[FaceScore], track: int, share: float = 1.0) -> list[FaceScore]:
    """The rows with so large a share of a track's faces tiny."""
    own = [place for place, row in enumerate(rows) if row.track == track and row.logit is not None]
    tiny = replace(FACE, box=(0.0, 0.0, 55.0, 90.0))
    changed = list(rows)
    for place in own[: round(share * len(own))]:
        changed[place] = replace(changed[place], face=tiny)
    return changed


@pytest.mark.parametrize("score", [-5.0, 0.0, 5.0])
def test_a_doubted_score_makes_no_firm_verdict_and_is_told(score: float) -> None:
    rows = timeline({1: [score] * 10})
    decision = decide(doubted(rows, 1, 0.6), POLICY, probability)
    assert (decision.verdict, decision.reason) == (Verdict.INCONCLUSIVE, Reason.TINY_FACES)
    assert decision.p_fake == pytest.approx(probability(score))
    assert decision.tracks[0].doubt is Reason.TINY_FACES
    assert decide(doubted(rows, 1, 0.4), POLICY, probability) == decide(rows, POLICY, probability)


def test_one_picture_is_doubted_too() -> None:
    rows = doubted(timeline({1: [5.0]}), 1)
    assert decide(rows, POLICY, probability, picture=True).reason is Reason.TINY_FACES


@pytest.mark.parametrize(
    ("doubted_score", "other", "verdict", "reason"),
    [
        (5.0, 3.0, Verdict.FAKE, None),  # a clear fake stays one beside a doubted face
        (5.0, -5.0, Verdict.INCONCLUSIVE, Reason.TINY_FACES),  # nobody can say that nobody is fake
        (-9.0, -5.0, Verdict.REAL, None),
        (-9.0, 5.0, Verdict.FAKE, None),
    ],
)
def test_a_doubted_person_beside_another(
    doubted_score: float, other: float, verdict: Verdict, reason: Reason | None
) -> None:
    rows = doubted(timeline({1: [doubted_score] * 5, 2: [other] * 5}), 1)
    decision = decide(rows, POLICY, probability)
    assert (decision.verdict, decision.reason) == (verdict, reason)
    assert decision.p_fake == pytest.approx(probability(doubted_score if reason else max(other, -5.0)))


def test_what_counts_as_tiny_is_the_users_choice() -> None:
    rows = doubted(timeline({1: [5.0] * 5}), 1)
    policy = settle_policy(VerdictConfig(tiny_below=0), fake_above=0.7, real_below=0.3)
    assert decide(rows, policy, probability).verdict is Verdict.FAKE


def test_too_few_faces_come_before_doubts() -> None:
    rows = doubted(timeline({1: [5.0] * 2}, frames=10), 1)
    assert decide(rows, POLICY, probability).reason is Reason.TOO_FEW_FACES


def spliced(inserted: int, score: float = 4.0, genuine: float = -4.0, before: int = 12, after: int = 12) -> list[float]:
    """Scores of a person of whom so many faces in a row were swapped."""
    return [genuine] * before + [score] * inserted + [genuine] * after


def test_a_part_of_a_clip_that_scores_as_fake_takes_the_verdict_real_away_and_is_named() -> None:
    decision = verdict_on({1: spliced(6), 2: [-5.0] * 30})
    assert (decision.verdict, decision.reason) == (Verdict.INCONCLUSIVE, Reason.PART_OF_CLIP)
    first, second = decision.tracks
    assert first.suspicious_span is not None
    assert (first.suspicious_span.start_s, first.suspicious_span.end_s) == (12.0, 17.0)
    assert first.suspicious_span.p_fake == pytest.approx(probability(4.0))
    assert decision.p_fake == first.p_fake
    assert first.p_fake is not None
    assert first.p_fake < POLICY.real_below
    assert second.suspicious_span is None


def test_the_part_is_named_as_a_whole_and_found_at_either_end() -> None:
    for before, after in ((0, 40), (40, 0), (20, 20)):
        (track,) = verdict_on({1: spliced(9, before=before, after=after)}, frames=0).tracks
        assert track.suspicious_span is not None
        assert (track.suspicious_span.start_s, track.suspicious_span.end_s) == (float(before), before + 8.0)


@pytest.mark.parametrize(
    "scores",
    [
        spliced(3),  # a few bad frames in a row
        [4.0 if place % 5 == 0 else -4.0 for place in range(40)],  # bad frames here and there
        spliced(6, score=0.0),  # not above the threshold for fake
        spliced(6)[12:15] + [-4.0] * 3,  # too short for a window within it
    ],
)
def test_what_is_no_suspicious_part(scores: list[float]) -> None:
    decision = verdict_on({1: scores}, frames=0)
    assert decision.reason is not Reason.PART_OF_CLIP
    assert decision.tracks[0].suspicious_span is None


def test_many_faces_a_second_are_judged_two_seconds_at_a_time() -> None:
    def at_25_fps(inserted: int) -> Decision:
        rows = timeline({1: spliced(inserted, before=60, after=60)})
        return decide([replace(row, time_s=row.time_s / 25) for row in rows], POLICY, probability)

    assert at_25_fps(8).verdict is Verdict.REAL  # a third of a second
    assert at_25_fps(45).reason is Reason.PART_OF_CLIP


def test_a_part_changes_no_verdict_fake_and_none_of_a_doubted_person() -> None:
    fake = verdict_on({1: spliced(8), 2: [5.0] * 5})
    assert (fake.verdict, fake.reason) == (Verdict.FAKE, None)
    rows = doubted(timeline({1: spliced(8)}), 1)
    assert decide(rows, POLICY, probability).reason is Reason.TINY_FACES
    rows = doubted(timeline({1: spliced(8, genuine=-9.0), 2: [-1.0] * 10}), 1)
    assert decide(rows, POLICY, probability).verdict is Verdict.REAL
