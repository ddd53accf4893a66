"""Plots of an evaluation as PNG files, in colors that color-blind readers can distinguish (Okabe and Ito, 2008)."""

from __future__ import annotations

import io
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from torchfakes_cli.records import Verdict
from torchfakes_cli.training.corpora import FAKE, REAL
from torchfakes_cli.training.evaluate.findings import Estimate, Model, Result
from torchfakes_cli.training.evaluate.perturb import LEVELS, MEANING, Kind

PLOTS = ("roc.png", "reliability.png", "scores.png", "robustness.png")
BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#666666"


def draw_plots(result: Result, model: Model, videos: pd.DataFrame, frames: pd.DataFrame) -> dict[str, bytes]:
    """Draw the plots that have something to show, from ``judge_videos`` and ``judge_crops``; return PNGs by name."""
    roc, reliability, scores, robustness = PLOTS
    videos, frames = (table[table["logit"].notna()] for table in (videos, frames))
    plots: dict[str, Figure] = {}
    if not result.video.missing:
        plots[roc] = _roc(result, model, videos, frames)
        plots[reliability] = _reliability(result, model)
    if len(videos):
        plots[scores] = _scores(model, videos)
    if len(result.robustness) > 1 and result.robustness[0].auc.value is not None:
        plots[robustness] = _robustness(result)
    for figure in plots.values():
        figure.suptitle(f"{_short(result.model)} on {_short(result.source)}")
    return {name: _png(figure) for name, figure in plots.items()}


def _roc(result: Result, model: Model, videos: pd.DataFrame, frames: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(6, 6.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle=":", label="chance")
    for name, table, auc, color, width in (
        ("crop", frames, result.frame.auc, GREEN, 1.2),
        ("video", videos, result.video.auc, BLUE, 2.2),
    ):
        x, y, _ = roc_curve(table["label"] == FAKE, table["logit"])
        axes.plot(x, y, color=color, linewidth=width, label=f"by {name}: AUC {_with_interval(auc)}")
    for threshold, marker, words in (
        (model.fake_above, "^", f"called fake: from {model.fake_above:.2f}"),
        (model.real_below, "v", f"not called real: from {model.real_below:.2f}"),
    ):
        above = (videos["p_fake"] >= threshold).groupby(videos["label"]).mean()
        style: dict[str, Any] = {"color": ORANGE, "markersize": 9, "markeredgecolor": "black", "clip_on": False}
        axes.plot(above[REAL], above[FAKE], marker, label=words, **style)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set(xlabel="share of reals above the threshold", ylabel="share of fakes above the threshold")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=9)
    return figure


def _reliability(result: Result, model: Model) -> Figure:
    figure = Figure(figsize=(6, 7), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle=":", label="perfect")
    for axes in (upper, lower):
        _mark_thresholds(axes, model)
    for name, level, color, marker in (("crop", result.frame, GREEN, "s"), ("video", result.video, BLUE, "o")):
        x, y = zip(*((part.mean_p, part.share_fake) for part in level.reliability if part.count), strict=True)
        label = f"by {name}: ECE {_with_interval(level.ece)}"
        upper.plot(x, y, marker=marker, color=color, linewidth=1.5, label=label)
    bins = result.video.reliability
    edges = [part.low for part in bins]
    lower.bar(edges, [part.count for part in bins], 1 / len(bins), align="edge", color=BLUE, edgecolor="white")
    lower.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    upper.set(ylim=(-0.03, 1.03), xlim=(0, 1), ylabel="share of fakes (even prior)")
    upper.legend(loc="upper left", fontsize=9)
    lower.set(xlabel="p_fake", ylabel="videos")
    return figure


def _scores(model: Model, videos: pd.DataFrame) -> Figure:
    kinds = list(videos.groupby(["label", "method"])["p_fake"])
    figure = Figure(figsize=(7, 3.4 + 0.34 * len(kinds)), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.6, 0.6 + 0.34 * len(kinds)])
    for axes in (upper, lower):
        _mark_thresholds(axes, model)
    by_label = {label: videos[videos["label"] == label]["p_fake"] for label in (REAL, FAKE)}
    upper.hist(
        list(by_label.values()),
        bins=np.linspace(0, 1, 21).tolist(),
        color=[BLUE, ORANGE],
        label=[f"{label} ({len(scores)})" for label, scores in by_label.items()],
    )
    upper.set(ylabel="videos", xlim=(0, 1))
    upper.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    # Above the axes, so that it never hides a bar.
    upper.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=9, frameon=False)
    rng = np.random.default_rng(0)
    for row, ((label, _), scores) in enumerate(kinds):
        heights = row + rng.uniform(-0.22, 0.22, len(scores))
        color, marker = (BLUE, "o") if label == REAL else (ORANGE, "^")
        lower.scatter(scores, heights, s=18, color=color, marker=marker, alpha=0.75, edgecolors="none", clip_on=False)
    lower.set_yticks(range(len(kinds)), [_short(f"{label}: {method}") for (label, method), _ in kinds])
    lower.set(xlabel="p_fake, one mark per video", ylim=(-0.6, len(kinds) - 0.4))
    lower.grid(axis="y", alpha=0.3)
    return figure


def _robustness(result: Result) -> Figure:
    clean, *rest = result.robustness
    series = [(Kind(kind), [clean, *found]) for kind, found in groupby(rest, key=lambda damage: damage.kind)]
    columns = min(4, len(series))
    rows = -(-len(series) // columns)
    figure = Figure(figsize=(0.6 + 2.9 * columns, 0.7 + 2.7 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    for axes in grid[len(series) :]:
        axes.set_visible(False)
    for axes, (kind, damages) in zip(grid, series, strict=False):
        levels = [damage.level for damage in damages]
        value, low, high = np.array([[d.auc.value, d.auc.low, d.auc.high] for d in damages], np.float64).T
        axes.axhline(0.5, color=GRAY, linewidth=1, linestyle=":")
        axes.axhline(value[0], color=GRAY, linewidth=1, linestyle="--")
        axes.fill_between(levels, low, high, color=BLUE, alpha=0.18, linewidth=0)
        axes.plot(levels, value, marker="o", color=BLUE, linewidth=1.8, label="AUC by video, with its interval")
        for label, verdict, color, marker in ((REAL, Verdict.FAKE, ORANGE, "^"), (FAKE, Verdict.REAL, GREEN, "s")):
            counts = [damage.verdicts[label] for damage in damages]
            shares = [count[verdict.value] / max(1, sum(count.values())) for count in counts]
            words = f"{label}s called {verdict.value}"
            style: dict[str, Any] = {"linewidth": 1.2, "markersize": 4, "linestyle": "--"}
            axes.plot(levels, shares, marker=marker, color=color, label=words, **style)
        axes.set_xticks(levels, ["none", *(f"{LEVELS[kind][level - 1]:g}" for level in levels[1:])], fontsize=8)
        axes.set_xlabel(f"{kind.value}: {MEANING[kind].partition(' (')[0]}", fontsize=8)
        axes.grid(axis="y", alpha=0.3)
    grid[0].set(ylim=(-0.03, 1.03), ylabel="AUC, share")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9, frameon=False)
    return figure


def _mark_thresholds(axes: Axes, model: Model) -> None:
    """Mark the band of inconclusive verdicts."""
    axes.axvspan(model.real_below, model.fake_above, color="#F0E442", alpha=0.25, linewidth=0, label="inconclusive")


def _with_interval(estimate: Estimate) -> str:
    interval = "" if estimate.low is None else f" ({estimate.low:.2f}–{estimate.high:.2f})"
    return "unknown" if estimate.value is None else f"{estimate.value:.3f}{interval}"


def _short(text: str) -> str:
    """Return a name that fits, and that matplotlib doesn't take for a formula."""
    plain = ascii(text)[1:-1].replace("$", r"\$")
    return plain if len(plain) <= 36 else f"{plain[:35]}…"


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
