"""The timeline as a picture: score over time, a line a person, with both thresholds and the gaps without a face."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator
from numpy.typing import NDArray

from torchfakes_cli.records import FaceScore, VideoResult
from torchfakes_cli.report.summary import Thresholds, by_suspicion, clock

#: People who get a line of their own; the highest scores of the rest are gathered in one.
LINES = 6

_INK, _PAPER, _QUIET, _GAP, _LIMIT = "#1b1b1f", "#fefefe", "#5c5c66", "#c9c9cf", "#1b1b20"
#: Told apart by colour-blind readers (after Okabe and Ito, 2008, darker where they were too pale on white); besides, no
#: two people share a dash, or a marker.
_HUES = ("#b34700", "#0068a8", "#00735a", "#8f3f78", "#6b5900", "#3d4a8f")
_DASHES = ("-", "--", "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P")
#: What each colour is called in the page's style, which has another value for it in the dark.
VARIABLES = {
    _INK: "--ink",
    _PAPER: "--paper",
    _QUIET: "--quiet",
    _GAP: "--gap",
    _LIMIT: "--limit",
    **{hue: f"--person-{place}" for place, hue in enumerate(_HUES, start=1)},
}

#: Moments drawn at most: a longer timeline is gathered in so many stretches, by the highest score in each.
_MOST_MOMENTS = 300
#: Markers that fit side by side across the plot: more would hide the line.
_MARKS = 50
#: Steps between the times on the axis, in seconds, and how many of them it takes at most.
_STEPS_S = (0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
_MOST_STEPS = 10

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
#: What the stylesheet that Matplotlib puts into each file says.
_JOINS = {"stroke-linejoin": "round", "stroke-linecap": "butt"}


@dataclass(frozen=True, slots=True)
class Moments:
    """The sampled frames of a timeline, or stretches of them.

    Attributes:
        times_s: of each, increasing; of a stretch its first frame's.
        scores: by track, the highest p_fake at each moment; NaN where the person has none.
        faceless: which of them show no face.
        unscored: which of them show faces, but none that has a score.
        stretch_s: seconds gathered in one; None where each is a frame.
    """

    times_s: NDArray[np.float64]
    scores: dict[int, NDArray[np.float64]]
    faceless: NDArray[np.bool_]
    unscored: NDArray[np.bool_]
    stretch_s: float | None


def moments_of(timeline: Sequence[FaceScore], most: int = _MOST_MOMENTS) -> Moments:
    """Sorts the rows of a timeline by moment and person; there are so many moments at most."""
    sampled = sorted({row.time_s for row in timeline})
    stretch = None
    starts = sampled
    if len(sampled) > most:
        stretch = (sampled[-1] - sampled[0]) / (most - 1)
        starts = list({int((time - sampled[0]) / stretch): time for time in reversed(sampled)}.values())[::-1]
    times = np.array(starts)
    place_of = dict(zip(sampled, (np.searchsorted(times, sampled, side="right") - 1).tolist(), strict=True))
    scores: dict[int, NDArray[np.float64]] = {}
    faces = np.zeros(len(times), bool)
    for row in timeline:
        place = place_of[row.time_s]
        faces[place] |= row.track is not None
        if row.track is not None and row.p_fake is not None:
            line = scores.setdefault(row.track, np.full(len(times), np.nan))
            line[place] = np.fmax(line[place], row.p_fake)
    scored = np.any([~np.isnan(line) for line in scores.values()], axis=0) if scores else np.zeros(len(times), bool)
    return Moments(times, scores, ~faces, faces & ~scored, stretch)


def draw_timeline(result: VideoResult, thresholds: Thresholds) -> str:
    """The plot as an ``svg`` element; empty where nothing was looked at.

    Args:
        result: of the scan.
        thresholds: that made its verdict.
    """
    moments = moments_of(result.timeline)
    if not len(moments.times_s):
        return ""
    ranked = [track.number for track in by_suspicion(result) if track.number in moments.scores]
    rest = ranked[LINES:]
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "torchfakes", "path.simplify_threshold": 0.5}):
        figure = Figure(figsize=(9, 3.7), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        _prepare(axes, moments)
        _draw_gaps(axes, moments)
        _draw_thresholds(axes, thresholds)
        if rest:
            highest = np.fmax.reduce([moments.scores[number] for number in rest])
            label = f"highest of {len(rest)} other{'s' if len(rest) > 1 else ''}"
            axes.plot(moments.times_s, highest, color=_QUIET, linewidth=0.7, label=label)
        for place, number in reversed(list(enumerate(ranked[:LINES]))):
            _draw_person(axes, moments, number, place)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(
            handles[::-1], labels[::-1], loc="outside upper left", ncols=4, frameon=False, labelcolor=_INK, fontsize=9
        )
        picture = io.StringIO()
        figure.savefig(
            picture, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    return themed(picture.getvalue(), VARIABLES, title="Score over time", description=_describe(moments, ranked))


def _describe(moments: Moments, ranked: Sequence[int]) -> str:
    """What somebody who can't see the plot should know of it; the numbers stand in a table."""
    first, last = moments.times_s[0], moments.times_s[-1]
    parts = [f"From {clock(first)} to {clock(last)}."]
    for number in ranked[:LINES]:
        line = moments.scores[number]
        low, high, when = np.nanmin(line), np.nanmax(line), moments.times_s[np.nanargmax(line)]
        parts.append(f"Person {number}: p_fake from {low:.2f} to {high:.2f}, highest at {clock(when)}.")
    if moments.faceless.any():
        parts.append(f"No face in {100 * moments.faceless.mean():.0f}% of it.")
    return " ".join(parts)


def _prepare(axes: Axes, moments: Moments) -> None:
    first, last = float(moments.times_s[0]), float(moments.times_s[-1])
    pad = max(0.02 * (last - first), 0.1)
    highest = "" if moments.stretch_s is None else f", highest in {moments.stretch_s:.2g} s"
    axes.set(xlim=(first - pad, last + pad), ylim=(-0.06, 1.04), xlabel="time", ylabel=f"p_fake{highest}")
    step = next((step for step in _STEPS_S if (last - first) / step <= _MOST_STEPS), (last - first) / _MOST_STEPS)
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda time, _: _axis_time(time, step)))
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(colors=_INK, labelsize=9, length=3)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    axes.grid(axis="y", color=_GAP, linewidth=0.6)


def _axis_time(time: float, step: float) -> str:
    if time < 0:
        return ""
    return clock(round(time)) if step >= 1 else f"{time:.1f} s"


def _draw_gaps(axes: Axes, moments: Moments) -> None:
    """Hatches the stretches without a face, halfway to the next frame that has one."""
    labels = {"no face": (moments.faceless, "////"), "no face fit to score": (moments.unscored, "....")}
    for label, (marked, hatch) in labels.items():
        for start, end in _stretches(moments.times_s, marked):
            axes.axvspan(
                start, end, facecolor="none", edgecolor=_GAP, hatch=hatch, linewidth=0, label=label, zorder=0.5
            )
            label = "_" + label  # the legend names the first one alone


def _stretches(times: NDArray[np.float64], marked: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Start and end of each run of marked moments."""
    edges = np.concatenate([times[:1] - 0.1, (times[1:] + times[:-1]) / 2, times[-1:] + 0.1])
    changes = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(int)))
    return [(float(edges[start]), float(edges[end])) for start, end in zip(changes[::2], changes[1::2], strict=True)]


def _draw_thresholds(axes: Axes, thresholds: Thresholds) -> None:
    fake, real = thresholds.fake_above, thresholds.real_below
    levels = {fake: f"fake from {fake:.2f}"}
    if real != fake:
        levels[real] = f"real below {real:.2f}"
    for level, words in levels.items():
        axes.axhline(level, color=_LIMIT, linewidth=1, linestyle=(0, (2, 3)), zorder=1)
        axes.annotate(
            words,
            (1, level),
            (6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va=_alignment(level == fake, abs(fake - real)),
            fontsize=9,
            color=_INK,
            annotation_clip=False,
        )


def _alignment(upper: bool, apart: float) -> str:
    """Of a threshold's words, which stand beside the plot: those of two close ones move apart."""
    if apart == 0 or apart > 0.08:
        return "center"
    return "bottom" if upper else "top"


def _draw_person(axes: Axes, moments: Moments, number: int, place: int) -> None:
    line = moments.scores[number]
    axes.plot(
        moments.times_s,
        line,
        color=_HUES[place],
        linestyle=_DASHES[place],
        linewidth=1.6,
        marker=_MARKERS[place],
        markersize=4.5,
        markeredgecolor=_PAPER,
        markeredgewidth=0.5,
        markevery=_marked(moments.times_s, line),
        label=f"person {number}",
        zorder=3,
    )


def _marked(times: NDArray[np.float64], line: NDArray[np.float64]) -> list[int]:
    """The moments that get a marker: so far apart that they don't hide the line."""
    apart = (times[-1] - times[0]) / _MARKS
    marked: list[int] = []
    for place in np.flatnonzero(~np.isnan(line)).tolist():
        if not marked or times[place] - times[marked[-1]] >= apart:
            marked.append(place)
    return marked


def themed(svg: str, variables: Mapping[str, str], *, title: str, description: str) -> str:
    """The ``svg`` element for inside HTML.

    A content security policy that allows no inline styles would drop ``style`` attributes, so they become presentation
    attributes. Text keeps its size and takes the page's font.

    Args:
        svg: as Matplotlib writes it; ours, not a stranger's.
        variables: CSS variable for each colour (``#rrggbb``, lower case); the colour itself stays as fallback.
        title: names the picture for who can't see it.
        description: says what it shows.
    """
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}style", f"{{{_SVG}}}metadata"):
                parent.remove(child)
    for element in root.iter():
        for name, value in _declarations(element.attrib.pop("style", "")):
            if name == "font":  # before Matplotlib 3.10; from then on its parts come one by one
                element.set("font-size", value.split()[0])
            elif name != "font-family":
                element.set(name, value)
        for name, value in list(element.attrib.items()):
            if value in variables:
                element.set(name, f"var({variables[value]}, {value})")
        if _LINK in element.attrib:
            element.set("href", element.attrib.pop(_LINK))
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
    _drop_unused_ids(root)
    view = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update(_JOINS, viewBox=view, role="img")
    root.set("aria-labelledby", "plot-title plot-description")
    for place, (name, text) in enumerate({"title": title, "desc": description}.items()):
        label = ElementTree.Element(name, id="plot-title" if name == "title" else "plot-description")
        label.text = text
        root.insert(place, label)
    return ElementTree.tostring(root, encoding="unicode")


def _declarations(style: str) -> list[tuple[str, str]]:
    pairs = (declaration.split(":", 1) for declaration in style.split(";") if ":" in declaration)
    return [(name.strip(), value.strip()) for name, value in pairs]


def _drop_unused_ids(root: ElementTree.Element) -> None:
    """Keeps those that something in the picture refers to: the others would only lengthen the page."""
    values = [value for element in root.iter() for value in element.attrib.values() if "#" in value]
    used = {value.split("#", 1)[1].rstrip(")") for value in values}
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)
