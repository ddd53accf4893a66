"""Timeline of a report: rows of its table, and a plot as SVG with a line per person, thresholds, and gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torchfakes_cli.records import FaceScore, VideoResult
from torchfakes_cli.report.formatting import apart, clock
from torchfakes_cli.report.summary import by_suspicion, note_words

#: People who get a line of their own; the highest scores of the rest are gathered in one.
LINES = 6
#: Largest numbers of rows of the table of scores, and of moments in it and in the plot. The rows of a longer timeline
#: are gathered in stretches of the first length in seconds that suffices.
MOST_ROWS = 1200
_MOST_MOMENTS = 720
_LENGTHS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)
#: Steps between the times on the axis in seconds, and the largest number of them.
_STEPS_S = (0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
_MOST_STEPS = 10

#: Layout in units of the drawing: size, edges of the plot below the legend, height of a line of the legend.
_WIDTH, _LEFT, _RIGHT, _HEIGHT, _LINE = 900, 48, 778, 250, 24
#: Each person has a dash and a marker besides a color, which the style sheet defines for light and dark.
_DASHES = ("none", "8 4", "8 3 2 3", "2 3", "10 3 2 3 2 3", "14 4")
_MARKERS = (
    "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "m-3.5 -3.5h7v7h-7z",
    "m0 -5l5 9h-10z",
    "m0 -5l5 5l-5 5l-5 -5z",
    "m0 5l5 -9h-10z",
    "m-1.5 -5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z",
)
#: Smallest distance between the markers of a line, which more would hide.
_APART = 14

_Line = dict[float, float]
_Scale = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class TableRow:
    """One person in one stretch of the timeline, or the frames without a face in it (``track`` is None).

    It gathers ``rows`` rows of the timeline, ``scored`` of them with a score; ``p_fake`` is the highest.
    """

    start_s: float
    end_s: float
    track: int | None
    rows: int
    scored: int
    p_fake: float | None
    notes: tuple[str, ...]


def table_rows(timeline: Sequence[FaceScore]) -> tuple[float, list[TableRow]]:
    """Return the seconds that each row of the table summarizes (0 if each is one sampled frame), and the rows.

    If even the longest stretches give too many rows, the table is cut off.
    """
    moments = {row.time_s for row in timeline}
    if len(timeline) <= MOST_ROWS and len(moments) <= _MOST_MOMENTS:
        return 0, [_gathered([row]) for row in timeline]
    for length in _LENGTHS_S:
        groups: dict[tuple[float, int], list[FaceScore]] = {}
        for row in timeline:
            groups.setdefault((row.time_s // length, row.track or 0), []).append(row)
        if len(groups) <= MOST_ROWS and len({time // length for time in moments}) <= _MOST_MOMENTS:
            break
    return length, [_gathered(groups[key]) for key in sorted(groups)[:MOST_ROWS]]


def _gathered(rows: Sequence[FaceScore]) -> TableRow:
    scores = [row.p_fake for row in rows if row.p_fake is not None]
    return TableRow(
        start_s=rows[0].time_s,
        end_s=rows[-1].time_s,
        track=rows[0].track,
        rows=len(rows),
        scored=len(scores),
        p_fake=max(scores, default=None),
        notes=tuple(dict.fromkeys(note_words(row.note) for row in rows if row.note)),
    )


def draw_timeline(result: VideoResult, rows: Sequence[TableRow], length: float) -> str:
    """Return the plot of rows from ``table_rows`` as an ``svg`` element; empty if no frame was sampled."""
    if not rows:
        return ""
    gaps, lines = _lines(rows, length)
    ranked = [track.number for track in by_suspicion(result) if track.number in lines]
    others = ranked[LINES:]
    legend: list[tuple[str, str]] = []
    drawn: list[str] = []
    top = _LINE * (1 + (min(len(ranked), LINES) + bool(others) + len(set(gaps.values()) - {""}) - 1) // 4) + 16
    times = list(gaps)
    span = max(times[-1] - times[0], 1e-6)

    def x_of(time_s: float) -> float:
        return round(_LEFT + 10 + (_RIGHT - _LEFT - 20) * (time_s - times[0]) / span, 1)

    def y_of(score: float) -> float:
        return round(top + _HEIGHT * (1 - score), 1)

    for kind, pattern in (("no face", "no-face"), ("no face fit to score", "unscored")):
        for start, end in _stretches(gaps, kind):
            x = x_of(start)
            width = max(1.0, round(x_of(end) - x, 1))
            drawn.append(f'<rect x="{x}" y="{top}" width="{width}" height="{_HEIGHT}" fill="url(#{pattern})"/>')
        if kind in gaps.values():
            legend.append((f'<rect width="26" height="12" y="-6" fill="url(#{pattern})"/>', kind))
    drawn += _axes(times, top, x_of, y_of, f", highest in {length:g} s" if length else "")
    drawn += _thresholds(result, y_of)
    if others:
        best = {time: max(lines[number].get(time, -1.0) for number in others) for time in times}
        path = _path({time: score for time, score in best.items() if score >= 0}, times, x_of, y_of)
        drawn.append(f'<path d="{path}" fill="none" stroke="var(--quiet)"/>')
        legend.insert(0, ('<path d="M0 0H26" stroke="var(--quiet)"/>', f"highest of {len(others)} others"))
    for place, number in reversed(list(enumerate(ranked[:LINES]))):
        style = f'fill="none" stroke="var(--person-{place + 1})" stroke-width="2" stroke-dasharray="{_DASHES[place]}"'
        mark = f'fill="var(--person-{place + 1})" stroke="var(--paper)" stroke-width=".6"'
        drawn.append(f'<path d="{_path(lines[number], times, x_of, y_of)}" {style}/>')
        marks = "".join(f"M{x} {y}{_MARKERS[place]}" for x, y in _marked(lines[number], x_of, y_of))
        drawn.append(f'<path d="{marks}" {mark}/>')
        sample = f'<path d="M0 0H26" {style}/><path d="M13 0{_MARKERS[place]}" {mark}/>'
        legend.insert(0, (sample, f"person {number}"))
    for place, (sample, words) in enumerate(legend):
        x, y = _LEFT + place % 4 * 200, 14 + place // 4 * _LINE
        drawn.append(f'<g transform="translate({x} {y})">{sample}<text x="33" y="4">{words}</text></g>')
    return (
        f'<svg viewBox="0 0 {_WIDTH} {top + _HEIGHT + 44}" role="img" aria-labelledby="plot-title plot-description">'
        f'<title id="plot-title">Score over time</title><desc id="plot-description">{_description(gaps, lines, ranked)}'
        '</desc><defs><pattern id="no-face" width="8" height="8" patternUnits="userSpaceOnUse">'
        '<path d="M-2 2L2 -2M0 8L8 0M6 10L10 6" stroke="var(--gap)"/></pattern>'
        '<pattern id="unscored" width="6" height="6" patternUnits="userSpaceOnUse">'
        '<circle cx="2" cy="2" r="1.2" fill="var(--gap)"/></pattern></defs>'
        f'<g font-size="13" fill="var(--ink)">{"".join(drawn)}</g></svg>'
    )


def _lines(rows: Sequence[TableRow], length: float) -> tuple[dict[float, str], dict[int, _Line]]:
    """Return for each moment why it has no score, or an empty string; and for each person the score at each moment."""
    gaps: dict[float, str] = {}
    lines: dict[int, _Line] = {}
    for row in rows:
        time = row.start_s // length * length if length else row.start_s
        if row.track is not None and row.p_fake is not None:
            lines.setdefault(row.track, {})[time] = row.p_fake
            gaps[time] = ""
        elif gaps.setdefault(time, "no face") and row.track is not None:
            gaps[time] = "no face fit to score"
    return gaps, lines


def _stretches(gaps: dict[float, str], kind: str) -> Iterator[tuple[float, float]]:
    """Yield start and end of each run of moments of a kind, halfway to their neighbors."""
    times = list(gaps)
    edges = [times[0], *((a + b) / 2 for a, b in pairwise(times)), times[-1]]
    start = None
    for place, time in enumerate([*times, None]):
        if time is not None and gaps[time] == kind:
            start = edges[place] if start is None else start
        elif start is not None:
            yield start, edges[place]
            start = None


def _path(line: _Line, times: Sequence[float], x_of: _Scale, y_of: _Scale) -> str:
    """Return the line of a person, which is interrupted where the person has no score."""
    following = {time: f"{x_of(time)} {y_of(line[time])}" for time in line}
    before = dict(zip(times[1:], times, strict=False))
    return "".join(f"{'L' if before.get(time) in line else 'M'}{point}" for time, point in following.items())


def _marked(line: _Line, x_of: _Scale, y_of: _Scale) -> Iterator[tuple[float, float]]:
    last = -_APART * 1.0
    for time, score in line.items():
        if x_of(time) - last >= _APART:
            last = x_of(time)
            yield last, y_of(score)


def _axes(times: Sequence[float], top: float, x_of: _Scale, y_of: _Scale, highest: str) -> Iterator[str]:
    for tenths in range(0, 11, 2):
        y = y_of(tenths / 10)
        yield f'<path d="M{_LEFT} {y}H{_RIGHT}" stroke="var(--gap)" stroke-width=".6"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{tenths / 10:.1f}</text>'
    yield f'<text x="14" y="{top + _HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 14 {top + _HEIGHT / 2})">'
    yield f"score (p_fake){highest}</text>"
    first, span = times[0], times[-1] - times[0]
    step = next((step for step in _STEPS_S if span / step <= _MOST_STEPS), span / _MOST_STEPS)
    tick = -(-first // step)
    while tick * step <= first + span:
        x, y = x_of(tick * step), top + _HEIGHT
        yield f'<path d="M{x} {y}v5" stroke="var(--ink)"/>'
        yield f'<text x="{x}" y="{y + 19}" text-anchor="middle">{clock(tick * step, 1 if step < 1 else 0)}</text>'
        tick += 1
    yield f'<text x="{(_LEFT + _RIGHT) / 2}" y="{top + _HEIGHT + 38}" text-anchor="middle">time</text>'


def _thresholds(result: VideoResult, y_of: _Scale) -> Iterator[str]:
    real, fake = result.real_below or 0.0, result.fake_above or 0.0
    real_text, fake_text = apart(real, fake)
    # Beside the plot; the words of two close thresholds move apart.
    shift = 8 if fake - real < 0.08 else 0
    for level, words, down in ((fake, f"fake from {fake_text}", -shift), (real, f"real below {real_text}", shift)):
        y = y_of(level)
        yield f'<path d="M{_LEFT} {y}H{_RIGHT}" stroke="var(--limit)" stroke-dasharray="2 4"/>'
        yield f'<text x="{_RIGHT + 6}" y="{y + 4 + down}">{words}</text>'


def _description(gaps: dict[float, str], lines: dict[int, _Line], ranked: Sequence[int]) -> str:
    """Describe the plot for readers who can't see it; the numbers stand in a table."""
    times = list(gaps)
    parts = [f"From {clock(times[0])} to {clock(times[-1])}."]
    for number in ranked[:LINES]:
        line = lines[number]
        low, high = apart(min(line.values()), max(line.values()))
        when = clock(max(line, key=lambda time: line[time]))
        parts.append(f"Person {number}: score from {low} to {high}, highest at {when}.")
    if missing := sum(kind == "no face" for kind in gaps.values()):
        parts.append(f"No face in {100 * missing / len(gaps):.0f} % of it.")
    return " ".join(parts)
