"""What textures say of videos whose groups they weren't fitted on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from torchfakes_cli.config import EvaluateConfig
from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora import FAKE
from torchfakes_cli.training.evaluation.calibrate import cross_validated
from torchfakes_cli.training.evaluation.findings import Probabilities
from torchfakes_cli.training.evaluation.measure import counterparts, moving_pictures, video_scores
from torchfakes_cli.training.evaluation.metrics import roc_auc
from torchfakes_cli.training.evaluation.verdicts import judge_videos, with_compression
from torchfakes_cli.training.fitting.texture import Described, fit_texture


def _folds(table: pd.DataFrame, folds: int) -> NDArray[np.int64]:
    """The fold of each row; groups stay whole, and rows of single pictures are always fitted on (-1)."""
    moving = table.index.isin(moving_pictures(table).index)
    fold = np.full(len(table), -1, np.int64)
    rows = np.flatnonzero(moving)
    groups = table["group"].to_numpy()[rows]
    for number, (_, chosen) in enumerate(GroupKFold(min(folds, len(set(groups)))).split(rows, groups=groups)):
        fold[rows[chosen]] = number
    return fold


def cross_validated_scores(
    described: Described, folds: int, progress: Callable[[str, int, int], None], without: str | None = None
) -> pd.DataFrame:
    """Judge videos by textures that were fitted without their groups.

    Args:
        described: crops of videos and of single pictures.
        folds: of the groups.
        progress: called with (what is done, how many folds, of how many).
        without: a method of fakes that is never fitted on either.

    Returns:
        The rows of the videos with a column ``logit``.

    Raises:
        DataError: too few groups are left to fit on.
    """
    fold = _folds(described.table, folds)
    known = (described.table["method"] != without).to_numpy()
    parts = []
    for number in range(fold.max() + 1):
        judged = fold == number
        try:
            texture, _ = fit_texture(described.only(~judged & known))
        except DataError as error:
            cause = f"cross-validation in {int(fold.max()) + 1} folds by group is not possible: {error.cause}"
            raise DataError(cause, advice="Prepare more groups of each label, or use more --folds.") from error
        logits = texture.logits(described.values[judged]).astype(float)
        parts.append(described.table[judged].assign(logit=logits))
        progress("cross-validating", number + 1, int(fold.max()) + 1)
    return pd.DataFrame(pd.concat(parts)).sort_index()


def calibrated_by_others(rows: pd.DataFrame, header: Header) -> Probabilities | None:
    """What the scores of videos are worth with calibrations and thresholds fitted without their groups.

    Args:
        rows: as ``cross_validated_scores`` gives them, with a column ``strangeness``.
        header: decides where too few of a video's faces could be scored.

    Returns:
        None where there are too few groups.
    """
    tried = cross_validated(judge_videos(with_compression(rows), header), header, EvaluateConfig())
    return tried[0] if tried else None


def each_left_out(described: Described, folds: int, progress: Callable[[str, int, int], None]) -> dict[str, float]:
    """Video AUC on each kind of fake, of textures fitted without it, where another kind is left to fit on.

    Args:
        described: see ``cross_validated_scores``.
        folds: likewise.
        progress: likewise.
    """
    moving = moving_pictures(described.table)
    methods = sorted(moving.loc[moving["label"] == FAKE, "method"].unique())
    found: dict[str, float] = {}
    for method in methods if len(methods) > 1 else ():
        videos = video_scores(cross_validated_scores(described, folds, progress, without=method))
        fakes = videos[(videos["label"] == FAKE) & (videos["method"] == method)]
        both = pd.concat([counterparts(videos, fakes)[0], fakes])
        auc = roc_auc((both["label"] == FAKE).to_numpy(), both["logit"])
        if auc is not None:
            found[method] = round(auc, 4)
    return found
