"""What damage does to verdicts that were right."""

from __future__ import annotations

import pandas as pd

from torchfakes_cli.training.evaluate.figures import Judged, auc_estimate, verdict_table
from torchfakes_cli.training.evaluate.findings import Damage
from torchfakes_cli.training.evaluate.perturb import Perturbation


def measure_damage(
    perturbation: Perturbation | None, before: pd.DataFrame, after: pd.DataFrame, *, rounds: int, seed: int
) -> Damage:
    """Compare the verdicts on damaged crops with those on the same crops undamaged.

    Args:
        perturbation: what was done; None for nothing.
        before: the videos undamaged, as ``judge_videos`` gives them.
        after: the same videos damaged, in the same order.
        rounds: of the bootstrap.
        seed: of the bootstrap.
    """
    first, then = Judged.of(before), Judged.of(after)
    lost = first.right & ~then.right
    right = int(first.right.sum())
    return Damage(
        kind=perturbation.kind.value if perturbation else "",
        level=perturbation.level if perturbation else 0,
        value=perturbation.value if perturbation else None,
        auc=auc_estimate(then, rounds=rounds, seed=seed),
        verdicts=verdict_table(then),
        correct=int(then.right.sum()),
        flipped=int((lost & then.firm).sum()) / right if right else None,
        withdrawn=int((lost & ~then.firm).sum()) / right if right else None,
    )
