"""Scored crops and videos in a few words."""

from __future__ import annotations

import math

import pandas as pd

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.training.evaluate.scores import judge_videos

#: p_fake is the logistic function of the logit; real below 0.3, fake from 0.7.
HEADER = Header(name="x", real_below=0.3, fake_above=0.7)


def crops(
    video: str, logits: list[float | None], *, label: str = "fake", method: str = "swap", group: str = "",
    source: str = "", face: int = 1, size: float = 100.0, sharpness: float = 200.0, split: str = "test",
    compression: str = "",
) -> list[dict[str, object]]:  # fmt: skip
    """Rows of one person in one video; None is a face too blurry for a score."""
    return [
        {
            "crop": f"{video}/{method}/{frame}_{face}.png", "video": video, "label": label, "method": method,
            "group": group or video, "source": source, "split": split, "compression": compression, "face": face,
            "frame": frame, "time_s": float(frame), "face_size": size, "sharpness": sharpness,
            "logit": math.nan if logit is None else logit,
        }
        for frame, logit in enumerate(logits)
    ]  # fmt: skip


def videos(*rows: list[dict[str, object]], header: Header = HEADER) -> pd.DataFrame:
    """The videos of such rows, judged."""
    return judge_videos(table(*rows), header)


def table(*rows: list[dict[str, object]]) -> pd.DataFrame:
    """Such rows in one table."""
    return pd.DataFrame([row for part in rows for row in part])


def people(count: int, reals: list[float], fakes: list[float], *, split: str = "val") -> pd.DataFrame:
    """Rows of so many people, each with a real and a fake video; logits are taken in turn."""
    rows = []
    for number in range(count):
        real, fake = reals[number % len(reals)], fakes[number % len(fakes)]
        group, real_name = f"p{number}", f"real/p{number}"
        rows.append(crops(real_name, [real] * 4, label="real", method="film", group=group, split=split))
        rows.append(crops(f"fake/p{number}", [fake] * 4, group=group, source=real_name, split=split))
    return table(*rows)
