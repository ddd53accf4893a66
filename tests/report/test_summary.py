"""A result in words: no codes, no numbers that say nothing, the same words for every renderer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.report.pages import crowd
from tests.report.results import TRACK, result
from torchfakes_cli.records import Reason, SuspiciousSpan, VideoResult
from torchfakes_cli.report.columns import batch_row
from torchfakes_cli.report.html.page import index_row
from torchfakes_cli.report.summary import caveats, reason_words, summarize


def said(film: VideoResult) -> str:
    summary = summarize(film)
    words = [summary.short, summary.headline, summary.proof, summary.measured, summary.next_step, summary.options]
    return " ".join([*words, *caveats(film, "32 videos")])


@pytest.mark.parametrize("picture", [False, True])
@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_said_without_its_code(reason: Reason, picture: bool, tmp_path: Path) -> None:
    film = result()
    film = replace(film, reason=reason, info=replace(film.info, picture=picture))
    if reason is Reason.PART_OF_CLIP:
        film = replace(film, tracks=(replace(TRACK, suspicious_span=SuspiciousSpan(0.0, 1.0, 0.9)),))
    assert "_" not in said(film).replace("p_fake", "")
    assert "_" not in index_row(batch_row(film), None, tmp_path).note
    assert reason_words(reason.value)


def test_an_explanation_and_its_advice_are_apart() -> None:
    summary = summarize(replace(result(), reason=Reason.NO_FACE))
    assert summary.headline == "No face was found in the 2 frames sampled."
    assert summary.options == "Try --min-face for smaller faces, or --fps to sample more frames."


def test_numbers_that_look_alike_are_told_apart_or_said_once() -> None:
    between = replace(result(), reason=Reason.BETWEEN_THRESHOLDS)
    close = replace(between, real_below=0.9961, fake_above=0.9987, p_fake=0.9971)
    assert "is 0.997 (person 1), between the thresholds (real below 0.996, fake from 0.999)" in said(close)
    film, _ = crowd(20, 1)
    alike = replace(film, timeline=tuple(replace(row, p_fake=0.9991) for row in film.timeline))
    assert "Half of the 20 scores of person 1 are about 1.00." in said(alike)
    assert "lie between 0." in said(film)


def test_the_person_who_decides_comes_first() -> None:
    film, _ = crowd(20, 3)
    summary = summarize(film)
    first, *others = summary.people
    assert (first.decides, first.word, first.standing) == (True, "fake", "looks synthetic")
    assert not any(person.decides for person in others)
    numbers = sorted(track.number for track in film.flagged)
    assert summary.short == f"persons {numbers[0]}, {numbers[1]} and {numbers[2]}"
    assert all(f"person {number} (score 0." in summary.headline for number in numbers)
    assert summary.score == f"{film.p_fake:.2f}"


@pytest.mark.parametrize("reason", [Reason.FRAMES_DISAGREE, Reason.DAMAGED, Reason.BETWEEN_THRESHOLDS])
def test_a_person_is_not_called_real_or_fake_where_the_verdict_is_not(reason: Reason) -> None:
    score = {Reason.FRAMES_DISAGREE: 0.9, Reason.DAMAGED: 0.1, Reason.BETWEEN_THRESHOLDS: 0.5}[reason]
    person = replace(TRACK, lasting=True, p_fake=score)
    summary = summarize(replace(result(), reason=reason, p_fake=score, tracks=(person,)))
    assert summary.people[0].word == summary.verdict == "inconclusive"
    assert summary.people[0].standing == summary.short


def test_a_suspicious_part_is_named_with_its_seconds_and_how_to_scan_it_alone() -> None:
    person = replace(TRACK, number=2, lasting=True, suspicious_span=SuspiciousSpan(65.2, 67.9, 0.93))
    summary = summarize(replace(result(), reason=Reason.PART_OF_CLIP, tracks=(TRACK, person)))
    assert summary.headline.startswith("Person 2 looks synthetic to this detector from 1:05 to 1:08 (score 0.93 there")
    assert "--start 65 --end 68" in summary.options
    assert [shown.standing for shown in summary.people if shown.track is person] == [
        "looks synthetic from 1:05 to 1:08"
    ]
