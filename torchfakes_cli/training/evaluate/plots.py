"""Plots of an evaluation as PNG files, in colours that colour-blind readers can distinguish (Okabe and Ito, 2008)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from torchfakes_cli.records import Verdict
from torchfakes_cli.training.corpora import FAKE, REAL
from torchfakes_cli.training.evaluate.findings import Damage, Estimate, Figures, Model, Result
from torchfakes_cli.training.evaluate.metrics import roc_points
from torchfakes_cli.training.evaluate.perturb import LEVELS, Kind

PLOTS = ("roc.png", "reliability.png", "scores.png", "robustness.png")
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
_DPI = 130
#: Steps of the histogram of scores.
_STEPS = 20
_AXIS = {
    Kind.H264: "H.264, CRF",
    Kind.JPEG: "JPEG, quality",
    Kind.BLUR: "Gaussian blur, kernel (px)",
    Kind.NOISE: "Gaussian noise, variance",
    Kind.RESIZE: "down and up, factor",
    Kind.BLOCKS: "grey blocks",
    Kind.SATURATION: "saturation, factor",
    Kind.CONTRAST: "contrast, factor",
}


def draw_plots(result: Result, model: Model, videos: pd.DataFrame, frames: pd.DataFrame) -> dict[str, bytes]:
    """Every plot that says something.

    Args:
        result: to show.
        model: its detector.
        videos: as ``judge_videos`` gives them.
        frames: as ``judge_crops`` gives them.

    Returns:
        PNG files by name.
    """
    roc, reliability, scores, robustness = PLOTS
    plots: dict[str, Figure] = {}
    if not result.video.missing:
        plots[roc] = _roc(result, model, videos, frames)
        plots[reliability] = _reliability(result, model)
    if videos["p_fake"].notna().any():
        plots[scores] = _scores(result, model, videos)
    if len(result.robustness) > 1 and result.robustness[0].auc.value is not None:
        plots[robustness] = _robustness(result)
    return {name: _png(figure) for name, figure in plots.items()}


def _roc(result: Result, model: Model, videos: pd.DataFrame, frames: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(6, 6.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="chance")
    for name, table, level, colour, width in (
        ("crops", frames, result.frame, GREEN, 1.2),
        ("videos", videos, result.video, BLUE, 2.2),
    ):
        scored = table[table["logit"].notna()]
        points = roc_points(scored["label"] == FAKE, scored["logit"])
        if points:
            label = f"by {name[:-1]}: AUC {_with_interval(level.auc)}"
            axes.plot(*points, color=colour, linewidth=width, label=label)
    scored = videos[videos["logit"].notna()]
    fake = (scored["label"] == FAKE).to_numpy()
    for threshold, marker, words in (
        (model.fake_above, "^", f"called fake: from {model.fake_above:.2f}"),
        (model.real_below, "v", f"not called real: from {model.real_below:.2f}"),
    ):
        above = (scored["p_fake"] >= threshold).to_numpy()
        x, y = float(above[~fake].mean()), float(above[fake].mean())
        axes.plot(x, y, marker, color=ORANGE, markersize=9, markeredgecolor="black", label=words, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set(
        xlabel="share of reals above the threshold", ylabel="share of fakes above the threshold", title=_title(result)
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=9)
    return figure


def _reliability(result: Result, model: Model) -> Figure:
    figure = Figure(figsize=(6, 7), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="perfect")
    for axes in (upper, lower):
        _mark_thresholds(axes, model)
    for name, level, colour, marker in (
        ("crop", result.frame, GREEN, "s"),
        ("video", result.video, BLUE, "o"),
    ):
        full = [part for part in level.reliability if part.count]
        upper.plot(
            [part.mean_p for part in full],
            [part.share_fake for part in full],
            marker=marker,
            color=colour,
            linewidth=1.5,
            label=f"by {name}: ECE {_with_interval(level.ece)}",
        )
    _counts(lower, result.video)
    upper.set(ylim=(-0.03, 1.03), xlim=(0, 1), ylabel="share of fakes (even prior)", title=_title(result))
    upper.legend(loc="upper left", fontsize=9)
    lower.set(xlabel="p_fake", ylabel="videos")
    return figure


def _counts(axes: Axes, level: Figures) -> None:
    bins = level.reliability
    axes.bar(
        [part.low for part in bins],
        [part.count for part in bins],
        width=[part.high - part.low for part in bins],
        align="edge",
        color=BLUE,
        edgecolor="white",
    )
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))


def _scores(result: Result, model: Model, videos: pd.DataFrame) -> Figure:
    scored = videos[videos["p_fake"].notna()]
    kinds = [(REAL, name) for name in sorted(set(scored[scored["label"] == REAL]["method"]))]
    kinds += [(FAKE, name) for name in sorted(set(scored[scored["label"] == FAKE]["method"]))]
    figure = Figure(figsize=(7, 3.4 + 0.34 * len(kinds)), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.6, 0.6 + 0.34 * len(kinds)])
    steps = np.linspace(0, 1, _STEPS + 1)
    for axes in (upper, lower):
        _mark_thresholds(axes, model)
    upper.hist(
        [scored[scored["label"] == label]["p_fake"] for label in (REAL, FAKE)],
        bins=list(steps),
        color=[BLUE, ORANGE],
        label=[f"{label} ({int((scored['label'] == label).sum())})" for label in (REAL, FAKE)],
    )
    figure.suptitle(_title(result))
    upper.set(ylabel="videos", xlim=(0, 1))
    upper.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    # Above the axes: no bar is ever hidden by it.
    upper.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=9, frameon=False)
    rng = np.random.default_rng(0)
    for row, (label, method) in enumerate(reversed(kinds)):
        own = scored[(scored["label"] == label) & (scored["method"] == method)]["p_fake"].to_numpy()
        heights = row + rng.uniform(-0.22, 0.22, len(own))
        colour, marker = (BLUE, "o") if label == REAL else (ORANGE, "^")
        lower.scatter(own, heights, s=18, color=colour, marker=marker, alpha=0.75, edgecolors="none", clip_on=False)
    names = [_short(f"{label}: {method}") for label, method in reversed(kinds)]
    lower.set_yticks(range(len(kinds)), names)
    lower.set(xlabel="p_fake, one mark a video", ylim=(-0.6, len(kinds) - 0.4))
    lower.grid(axis="y", alpha=0.3)
    return figure


def _robustness(result: Result) -> Figure:
    clean, *rest = result.robustness
    series = [(Kind(kind), list(found)) for kind, found in groupby(rest, key=lambda damage: damage.kind)]
    columns = min(4, len(series))
    rows = -(-len(series) // columns)
    figure = Figure(figsize=(0.6 + 2.9 * columns, 0.7 + 2.7 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(series):
            axes.set_visible(False)
            continue
        kind, damages = series[place]
        _curve(axes, clean, damages)
        axes.set_xlabel(_AXIS[kind])
        if place % columns == 0:
            axes.set_ylabel("AUC, share")
    grid.flat[0].set_ylim(-0.03, 1.03)
    figure.suptitle(_title(result))
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9, frameon=False)
    return figure


def _curve(axes: Axes, clean: Damage, damages: Sequence[Damage]) -> None:
    places = [0, *(damage.level for damage in damages)]
    estimates = [clean.auc, *(damage.auc for damage in damages)]
    kind = Kind(damages[0].kind)
    axes.axhline(0.5, color=GREY, linewidth=1, linestyle=":")
    axes.axhline(clean.auc.value or 0.0, color=GREY, linewidth=1, linestyle="--")
    low = [np.nan if part.low is None else part.low for part in estimates]
    high = [np.nan if part.high is None else part.high for part in estimates]
    axes.fill_between(places, low, high, color=BLUE, alpha=0.18, linewidth=0)
    middle = [np.nan if part.value is None else part.value for part in estimates]
    axes.plot(places, middle, marker="o", color=BLUE, linewidth=1.8, label="AUC by video, with its interval")
    for label, verdict, colour, marker in ((REAL, Verdict.FAKE, ORANGE, "^"), (FAKE, Verdict.REAL, GREEN, "s")):
        counts = [damage.verdicts[label] for damage in (clean, *damages)]
        shares = [count[verdict.value] / max(1, sum(count.values())) for count in counts]
        words = f"{label}s called {verdict.value}"
        axes.plot(places, shares, marker=marker, color=colour, linewidth=1.2, markersize=4, linestyle="--", label=words)
    axes.set_xticks(places, ["none", *(f"{LEVELS[kind][place - 1]:g}" for place in places[1:])], fontsize=8)
    axes.grid(axis="y", alpha=0.3)


def _mark_thresholds(axes: Axes, model: Model) -> None:
    """The band in which a verdict is inconclusive."""
    axes.axvspan(model.real_below, model.fake_above, color="#F0E442", alpha=0.25, linewidth=0, label="inconclusive")


def _with_interval(estimate: Estimate) -> str:
    if estimate.value is None:
        return "unknown"
    interval = "" if estimate.low is None else f" ({estimate.low:.2f}–{estimate.high:.2f})"
    return f"{estimate.value:.3f}{interval}"


def _title(result: Result) -> str:
    return f"{_short(result.model)} on {_short(result.source)}"


def _short(text: str) -> str:
    """A name that fits, and that matplotlib doesn't take for a formula."""
    plain = ascii(text)[1:-1].replace("$", r"\$")
    return plain if len(plain) <= 36 else f"{plain[:35]}…"


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
