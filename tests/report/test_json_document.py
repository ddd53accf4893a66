from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.report.pages import crowd
from tests.report.results import TRACK, failure, result
from torchfakes_cli.records import SuspiciousSpan
from torchfakes_cli.report import SCHEMA, result_to_json


def test_a_document_holds_the_verdict_the_people_and_the_timeline() -> None:
    document = json.loads(result_to_json(result()))
    assert document["schema"] == SCHEMA
    assert document["verdict"] == "inconclusive"
    assert document["reason"] == "too_few_faces"
    assert document["video"]["fps"] == 29.97
    assert document["warnings"] == ["partial: 2 of 5 frames", "HDR"]
    assert document["tracks"][0]["p_fake"] == 0.2227
    assert document["timeline"][0]["face"]["box"] == [-3.0, 10.0, 61.2, 80.0]
    assert document["timeline"][2] == {
        "time_s": 1.0,
        "frame": None,
        "track": None,
        "face": None,
        "sharpness": None,
        "logit": None,
        "p_fake": None,
        "note": "no_face",
    }


def test_a_headline_says_what_was_measured_and_what_it_does_not_prove() -> None:
    film, _ = crowd(20, 3)
    document = json.loads(result_to_json(film))
    assert document["headline"].startswith("3 people look synthetic to this detector (fake from 0.69): person ")
    assert document["headline"].endswith("A high score is no proof of forgery.")
    assert document["next_step"].startswith("Look closely at ")
    assert document["people_flagged"] == sum(track["flagged"] for track in document["tracks"]) == 3
    assert document["error_rates"]["genuine"] == {"real": 20, "inconclusive": 2, "fake": 2}


def test_a_suspicious_part_of_a_track_has_its_seconds() -> None:
    parted = replace(TRACK, suspicious_span=SuspiciousSpan(4.5, 7.25, 0.91))
    first, second = json.loads(result_to_json(replace(result(), tracks=(TRACK, parted))))["tracks"]
    assert first["suspicious_span"] is None
    assert second["suspicious_span"] == {"start_s": 4.5, "end_s": 7.25, "p_fake": 0.91}


def test_both_outcomes_have_the_same_fields() -> None:
    scanned, failed = json.loads(result_to_json(result())), json.loads(result_to_json(failure()))
    assert list(scanned) == list(failed)
    assert failed["status"] == "error"
    assert failed["verdict"] is None
    assert failed["p_fake"] is None
    assert failed["frames_sampled"] is None


@pytest.mark.parametrize(
    "name", ["=x.mp4", "two\nlines", "\x1b[31m\u202e.mp4", b"\xff\xfe".decode("utf-8", "surrogateescape")]
)
def test_the_raw_path_comes_back_from_one_ascii_line(name: str) -> None:
    line = result_to_json(result(name), one_line=True)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["path"] == name


def test_a_number_that_is_none_is_null() -> None:
    document = json.loads(result_to_json(replace(result(), p_fake=float("nan"))))
    assert document["p_fake"] is None
