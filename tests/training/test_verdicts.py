"""Videos are judged as a scan would judge them, and are never mixed up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.training.scored_rows import HEADER, crops, videos
from torchfakes_cli.detector.calibration import probability
from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.records import FaceScore
from torchfakes_cli.scan.verdict import decide
from torchfakes_cli.training.evaluate.scores import (
    count_altered,
    judge_crops,
    judge_videos,
    moving_pictures,
    policy_of,
    thinned,
    with_altered,
    with_compression,
    with_stills,
)


def test_a_video_gets_the_verdict_of_a_scan() -> None:
    rng = np.random.default_rng(0)
    for number in range(40):
        rows = [
            row
            for face in range(1, rng.integers(2, 4))
            for row in crops("a", [x if rng.random() < 0.8 else None for x in rng.normal(0, 2, 5)], face=face)
        ]
        timeline = [
            FaceScore(row["time_s"], row["frame"], row["face"], note="blurry")
            if np.isnan(row["logit"])
            else FaceScore(row["time_s"], row["frame"], row["face"], logit=row["logit"])
            for row in sorted(rows, key=lambda row: row["frame"])
        ]
        decision = decide(timeline, policy_of(HEADER), probability)
        (found,) = videos(rows).to_dict("records")
        assert found["verdict"] == decision.verdict, number
        assert found["reason"] == (decision.reason or "")
        assert found["p_fake"] == decision.p_fake or decision.p_fake is None
        if decision.p_fake is not None:
            assert probability(found["logit"]) == decision.p_fake


@pytest.mark.parametrize(
    ("logits", "verdict", "reason"),
    [
        ([2.0] * 4, "fake", ""),
        ([-2.0] * 4, "real", ""),
        ([0.0] * 4, "inconclusive", "between_thresholds"),
        ([None] * 4, "inconclusive", "all_blurry"),
        ([2.0, None, None, 2.0], "inconclusive", "too_few_faces"),
        ([2.0, 2.0, None], "inconclusive", "too_few_faces"),
        ([-2.0, -2.0, -2.0, 90.0], "real", ""),  # one bad frame decides nothing
        ([-4.0] * 12 + [4.0] * 6 + [-4.0] * 12, "inconclusive", "part_of_clip"),
    ],
)
def test_verdicts_and_reasons(logits: list[float | None], verdict: str, reason: str) -> None:
    (found,) = videos(crops("a", logits)).to_dict("records")
    assert (found["verdict"], found["reason"]) == (verdict, reason)
    assert np.isnan(found["logit"]) == all(logit is None for logit in logits)


def test_tiny_faces_are_doubted_as_in_a_scan() -> None:
    rows = [
        *crops("tiny", [3.0] * 4, size=50.0),
        *crops("usual", [3.0] * 4),
    ]
    found = videos(rows).set_index("video")
    assert found["reason"].to_dict() == {"tiny": "tiny_faces", "usual": ""}
    assert list(found["p_fake"]) == pytest.approx([probability(3.0)] * 2)


def test_the_most_suspicious_person_decides() -> None:
    (found,) = videos(crops("a", [-3.0] * 4), crops("a", [3.0] * 4, face=2)).to_dict("records")
    assert found["verdict"] == "fake"
    assert found["faces_scored"] == 8


def test_videos_of_one_name_stay_apart() -> None:
    # FaceForensics++ calls the videos of every method alike.
    rows = [crops("000_003", [logit] * 3, method=method) for method, logit in (("A", -3.0), ("B", 3.0))]
    rows.append(crops("000_003", [0.0] * 3, label="real", method="youtube"))
    found = videos(*rows)
    assert list(found["verdict"]) == ["real", "fake", "inconclusive"]
    assert list(found["method"]) == ["A", "B", "youtube"]


def test_each_video_of_one_name_keeps_its_own_frames() -> None:
    rows = [row for method in "AB" for row in crops("000_003", [0.0] * 6, method=method)]
    kept = thinned(pd.DataFrame(rows), 2)
    assert kept.groupby("method").size().to_dict() == {"A": 2, "B": 2}
    still = pd.DataFrame([crops("000_003", [0.0], method="C")[0], *rows])
    assert set(moving_pictures(still)["method"]) == {"A", "B"}


def test_scores_are_those_that_training_measures() -> None:
    rng = np.random.default_rng(1)
    rows = [crops(f"v{n}", list(rng.normal(0, 2, 6)), face=face) for n in range(5) for face in (1, 2)]
    judged = videos(*rows)
    table = pd.DataFrame([row for part in rows for row in part]).drop(columns=["split", "compression"])
    trained = judge_videos(table, Header(name=""))
    assert list(judged["logit"]) == pytest.approx(list(trained["logit"]))


def test_crops_are_judged_by_the_same_thresholds() -> None:
    found = judge_crops(pd.DataFrame(crops("a", [-2.0, 0.0, 2.0, None])), HEADER)
    assert list(found["verdict"]) == ["real", "inconclusive", "fake"]
    assert list(found["p_fake"]) == pytest.approx([probability(x) for x in (-2, 0, 2)])


@pytest.mark.parametrize(
    ("video", "compression"),
    [
        ("manipulated_sequences/Deepfakes/c23/videos/000_003", "c23"),
        ("original_sequences/youtube/raw/videos/000", "raw"),
        ("fake/sadtalker/c23", ""),
        ("real/cars/a", ""),
    ],
)
def test_a_name_tells_the_compression(video: str, compression: str) -> None:
    assert list(with_compression(pd.DataFrame({"video": [video]}))["compression"]) == [compression]


def test_a_manifests_own_column_is_believed() -> None:
    table = pd.DataFrame({"video": ["x/c23/videos/1"], "compression": ["c40"]})
    assert list(with_compression(table)["compression"]) == ["c40"]


def test_stills_get_the_verdicts_of_pictures() -> None:
    # As prepare writes them: one crop a file, of frame 0 at 0 s.
    logits = {"real/a": -3.0, "real/b": 0.0, "fake/a": 3.0, "fake/b": None}
    found = videos(*(crops(name, [logit], label=name[:4]) for name, logit in logits.items())).set_index("video")
    assert found["verdict"].to_dict() == {
        "fake/a": "fake", "fake/b": "inconclusive", "real/a": "real", "real/b": "inconclusive",
    }  # fmt: skip
    assert found["reason"].to_dict() == {
        "fake/a": "", "fake/b": "all_blurry", "real/a": "", "real/b": "between_thresholds",
    }  # fmt: skip


def test_a_clip_with_a_single_crop_is_no_still() -> None:
    first, later = crops("a", [3.0, 3.0])
    assert list(videos([later])["reason"]) == ["too_few_faces"]
    # What is left of a clip is judged as a part of it, though its first frame alone looks like a still.
    left = with_stills(pd.DataFrame([first, later])).head(1)
    assert list(judge_videos(left, HEADER)["reason"]) == ["too_few_faces"]
    assert list(videos([first])["verdict"]) == ["fake"]


def pair(*, altered: float, other: float) -> list[list[dict[str, object]]]:
    """A real video of two people and a fake that changed the first one; logits of the fake's faces."""
    real = {"label": "real", "method": "film", "group": "g"}
    rows = [
        crops("real/v", [-3.0] * 4, **real),
        crops("real/v", [other] * 4, face=2, **real),
        crops("fake/v", [altered] * 4, source="real/v", group="g"),
        crops("fake/v", [other], source="real/v", group="g", face=2),  # what an encoder changed is no alteration
    ]
    return [[{**row, "boxes_from": "original" if row["label"] == "fake" else "own"} for row in part] for part in rows]


@pytest.mark.parametrize(
    ("altered", "other", "counts"),
    [
        (3.0, -3.0, (1, 1, 1, 1)),
        (3.0, 4.0, (1, 1, 1, 1)),
        (-3.0, 3.0, (1, 1, 1, 0)),  # somebody else decides the verdict
        (-3.0, -3.0, (1, 1, 0, 0)),
    ],
)
def test_a_hit_on_somebody_else_is_not_a_hit(altered: float, other: float, counts: tuple[int, ...]) -> None:
    rows = pd.DataFrame([row for part in pair(altered=altered, other=other) for row in part])
    found = count_altered(with_altered(rows), HEADER)
    assert found is not None
    assert (found.videos, found.with_others, found.called_fake, found.person_flagged) == counts


def test_altered_stills_are_counted() -> None:
    real = crops("real/v", [-3.0], label="real", method="film", group="g")
    fakes = [crops(f"fake/{name}", [logit], source="real/v", group="g") for name, logit in (("a", 3.0), ("b", -3.0))]
    rows = pd.DataFrame([*real, *(row for fake in fakes for row in fake)])
    found = count_altered(with_altered(rows.assign(boxes_from=["own", "original", "original"])), HEADER)
    assert found is not None
    assert (found.videos, found.with_others, found.called_fake, found.person_flagged) == (2, 0, 1, 1)


def test_without_the_original_nobody_knows_who_was_altered() -> None:
    rows = pd.DataFrame([row for part in pair(altered=3.0, other=3.0) for row in part])
    assert count_altered(with_altered(rows[rows["label"] == "fake"]), HEADER) is None
    assert count_altered(with_altered(rows.assign(boxes_from="own")), HEADER) is None
    assert count_altered(with_altered(rows.drop(columns="boxes_from")), HEADER) is None
