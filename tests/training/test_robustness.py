"""Damage is told by the verdicts it turns."""

from __future__ import annotations

import pytest

from tests.training.scored_rows import crops, videos
from torchfakes_cli.training.evaluate.figures import measure_damage
from torchfakes_cli.training.evaluate.perturb import Kind, Perturbation

BLUR = Perturbation(Kind.BLUR, 5)


def set_of(*logits: float) -> list[list[dict[str, object]]]:
    """Two reals and the rest fakes."""
    labels = ["real", "real", *["fake"] * (len(logits) - 2)]
    return [
        crops(f"v{number}", [logit] * 3, label=label)
        for number, (label, logit) in enumerate(zip(labels, logits, strict=True))
    ]


def test_right_verdicts_flip_or_are_withdrawn_and_wrong_ones_do_neither() -> None:
    before = videos(*set_of(-3, -3, 3, 3, -3))  # the last fake was missed from the start
    after = videos(*set_of(3, -3, 0, 3, 3))
    damage = measure_damage(BLUR, before, after, rounds=100, seed=0)
    assert (damage.kind, damage.level, damage.value) == ("blur", 5, 21)
    assert (damage.flipped, damage.withdrawn) == (0.25, 0.25)
    assert damage.correct == 3
    assert damage.verdicts["real"] == {"real": 1, "fake": 1, "inconclusive": 0}
    assert damage.auc.value == pytest.approx((1 + 0.5 + 0.5 + 1 + 1 + 0) / 6)


def test_no_damage_turns_nothing() -> None:
    before = videos(*set_of(-3, 3, 3, 0))
    damage = measure_damage(None, before, before, rounds=100, seed=0)
    assert (damage.kind, damage.level, damage.value, damage.flipped, damage.withdrawn) == ("", 0, None, 0, 0)


def test_where_nothing_was_right_nothing_can_flip() -> None:
    before = videos(*set_of(0, 0, 0))
    damage = measure_damage(BLUR, before, before, rounds=100, seed=0)
    assert damage.flipped is damage.withdrawn is None
