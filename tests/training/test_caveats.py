"""A careful reader is told what speaks against the figures."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from tests.training.scored_rows import HEADER, crops, people, videos
from torchfakes_cli.training.crops.manifest import group_marks
from torchfakes_cli.training.evaluate.calibrate import RECORD
from torchfakes_cli.training.evaluate.findings import Source
from torchfakes_cli.training.evaluate.report import notes_on
from torchfakes_cli.training.evaluate.scores import judge_videos

SOURCE = Source("crops", "crops", "crops", "test", 10, blurry=0, unseen=0, stills=0, surplus=0, unreadable=0)
FITTED = replace(HEADER, calibrated_on="something")
FEWER, MANY = (judge_videos(people(count, [-1.0], [1.0]), HEADER) for count in (40, 60))


def test_a_large_test_split_needs_no_caveat() -> None:
    assert notes_on(SOURCE, FITTED, MANY, damaged=False) == ()


def test_known_pictures_are_a_caveat_and_names_of_groups_alone_are_not() -> None:
    header = replace(FITTED, training={"groups": group_marks(["p1", "px"]), "pictures": []})
    assert notes_on(SOURCE, header, MANY, damaged=False, known=0) == ()
    (note,) = notes_on(SOURCE, header, MANY, damaged=False, known=3)
    assert "trained on at least 3 of these 10 crops" in note


@pytest.mark.parametrize(
    ("source", "header", "table", "damaged", "words"),
    [
        (replace(SOURCE, split="train"), FITTED, MANY, False, "training groups"),
        (replace(SOURCE, split="all"), FITTED, MANY, False, "Training groups may"),
        (replace(SOURCE, split="val"), FITTED, MANY, False, "validation groups"),
        (SOURCE, HEADER, MANY, False, "is not calibrated: probabilities"),
        (SOURCE, FITTED, FEWER, False, "40 real and 40 fake videos of 40 groups"),
        (replace(SOURCE, unreadable=2, first_unreadable="a.png: gone"), FITTED, MANY, False, "such as a.png: gone"),
        (replace(SOURCE, stills=7), FITTED, MANY, False, "7 crops of stills"),
        (SOURCE, FITTED, pd.concat([MANY, videos(crops("x", [None] * 3))]), False, "without a sharp face: 1"),
        (SOURCE, FITTED, MANY, True, "H.264"),
        (
            SOURCE, replace(FITTED, training={"groups": group_marks(["p1", "px"])}), MANY, False,
            "trained on groups of the same names as 1 of these 60",
        ),
        (
            SOURCE, replace(FITTED, metrics={RECORD: {"groups": group_marks(["p1", "p2", "px"])}}), MANY, False,
            "names as 2 of these 60",
        ),
    ],
)  # fmt: skip
def test_each_caveat_has_its_cause(source, header, table, damaged: bool, words: str) -> None:
    (note,) = notes_on(source, header, table, damaged=damaged)
    assert words in note
