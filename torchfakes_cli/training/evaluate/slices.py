"""How a detector does on some of the videos: by method, compression, face size and sharpness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import pandas as pd

from torchfakes_cli.training.corpora import FAKE
from torchfakes_cli.training.evaluate.figures import Judged, auc_estimate, missing_classes, verdict_table
from torchfakes_cli.training.evaluate.findings import Slice
from torchfakes_cli.training.evaluate.measure import counterparts

#: Borders between bins of the median face size of a video, in pixels of its frames.
FACE_SIZES = (64, 96, 128, 192, 256)
#: Borders between bins of the median sharpness of a video (variance of the Laplacian; a scan scores from 30 on).
SHARPNESSES = (100, 300, 1000)


def slice_videos(videos: pd.DataFrame, *, rounds: int, seed: int) -> tuple[Slice, ...]:
    """Every slice that says more than the whole.

    Args:
        videos: as ``judge_videos`` gives them.
        rounds: of the bootstrap.
        seed: of the bootstrap.
    """
    found = []
    for by, name, against, part in _parts(videos):
        judged = Judged.of(part)
        seen = judged.fake[judged.scored]
        found.append(
            Slice(
                by=by,
                name=name,
                real=int((~judged.fake).sum()),
                fake=int(judged.fake.sum()),
                against=against,
                auc=auc_estimate(judged, rounds=rounds, seed=seed),
                verdicts=verdict_table(judged),
                missing=missing_classes(seen),
            )
        )
    return tuple(found)


def _parts(videos: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """What it is sliced by, the slice's name, which reals are in it, and its videos."""
    for method, fakes in videos[videos["label"] == FAKE].groupby("method"):
        reals, against = counterparts(videos, fakes)
        yield "method", str(method), against, pd.concat([reals, fakes])
    if videos["compression"].nunique() > 1:
        for compression, part in videos.groupby("compression"):
            yield "compression", str(compression) or "unknown", "reals so compressed", part
    yield from _binned(videos, "face size", "face_size", FACE_SIZES, "reals of that size")
    yield from _binned(videos, "sharpness", "sharpness", SHARPNESSES, "reals so sharp")


def _binned(
    videos: pd.DataFrame, by: str, column: str, borders: Sequence[int], against: str
) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    names = [f"below {borders[0]}"]
    names += [f"{low} to {high}" for low, high in pairwise(borders)]
    names.append(f"{borders[-1]} and more")
    places = pd.cut(videos[column], [-float("inf"), *borders, float("inf")], right=False, labels=names)
    for name, part in videos.groupby(places, observed=True):
        yield by, str(name), against, part
