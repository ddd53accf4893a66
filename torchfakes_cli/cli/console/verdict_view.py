"""A result as one line of a batch, or as the panel of a single clip."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from torchfakes_cli.cli.console.screen import duration
from torchfakes_cli.records import FaceScore, Status, Track, Verdict, VideoResult
from torchfakes_cli.report.summary import (
    CAVEAT,
    ONE_VIEW,
    Summary,
    clock,
    geometry,
    reason_words,
    safe,
    score,
    summarise,
)
from torchfakes_cli.scan.verdict import Policy

#: People shown in the panel; the rest stand in the timeline.
_PEOPLE_SHOWN = 8
_PANEL_WIDTH = 100
#: Longer paths push what follows them out of its column.
_PATH_WIDTH = 60
#: Fits beside the other columns on 80, and gives each of 32 samples its own character.
_SPARKLINE_WIDTH = 32

_STYLES = {Verdict.FAKE: "bold red", Verdict.REAL: "bold green", Verdict.INCONCLUSIVE: "bold yellow"}

_BLOCKS = "▁▂▃▄▅▆▇█"
_DIGITS = "0123456789"
_MARKS = {"unseen": "·", "unscored": "░"}
_ASCII_MARKS = {"unseen": ".", "unscored": "~"}


def verdict_line(result: VideoResult, path_width: int = 0) -> Text:
    """Format one line of a batch: verdict, ``p_fake``, path, and the reason if the verdict is not firm.

    Args:
        result: result of the file.
        path_width: length of the longest path in the batch, so that what follows the paths is aligned.
    """
    path = safe(result.path)
    path += " " * (min(path_width, _PATH_WIDTH) - cell_len(path))
    if result.status is Status.ERROR:
        return Text.assemble(("error".ljust(12), "bold red"), "        ", path, "  ", (safe(result.error), "red"))
    verdict = result.verdict or Verdict.INCONCLUSIVE
    word = verdict.value.ljust(12), _STYLES[verdict]
    line = Text.assemble(word, "  ", score(result.p_fake).ljust(4), "  ", path)
    if result.reason:
        line.append(f"  {reason_words(result.reason, picture=result.is_picture)}", style="dim")
    if result.is_picture:
        line.append("  one picture", style="dim")
    line.rstrip()
    return line


def verdict_panel(result: VideoResult, policy: Policy, *, unicode: bool = True) -> RenderableType:
    """Make the panel of one clip: verdict, its meaning, people and times.

    Args:
        result: with status ``ok``.
        policy: that made the verdict.
        unicode: whether block characters can be shown.
    """
    summary = summarise(result, policy)
    style = _STYLES[summary.verdict]
    headline = Text.assemble((summary.verdict.value.upper(), style))
    if summary.score:
        headline.append(f"   p_fake {summary.score}")
    parts: list[RenderableType] = [headline, Text(summary.text)]
    if summary.people:
        parts += [Text(), _people(result, summary, policy, unicode=unicode)]
        legend = ONE_VIEW if result.is_picture else _legend(result, unicode)
        parts.append(Text(legend, style="dim"))
    parts += [
        Text(),
        Text(_footer(result), style="dim"),
        Text(CAVEAT, style="dim"),
    ]
    panel = Panel(
        Group(*parts),
        title=Text(safe(result.path), style="bold"),
        title_align="left",
        box=box.ROUNDED if unicode else box.ASCII,
        border_style=style.removeprefix("bold "),
        padding=(0, 1),
    )
    return Constrain(panel, _PANEL_WIDTH)


def _people(result: VideoResult, summary: Summary, policy: Policy, *, unicode: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("person", justify="right")
    if not result.is_picture:
        table.add_column("seen")
        table.add_column("scored", justify="right")
    table.add_column("p_fake", justify="right")
    if not result.is_picture:
        table.add_column("over time", no_wrap=True)
    for person in summary.people[:_PEOPLE_SHOWN]:
        track = person.track
        p_fake = Text("—" if unicode else "-")
        if track.p_fake is not None:
            p_fake = _coloured(score(track.p_fake), track.p_fake, policy)
        cells: list[RenderableType] = [str(track.number), p_fake]
        if not result.is_picture:
            seen = f"{clock(track.start_s)}–{clock(track.end_s)}" if unicode else _ascii_span(track)
            cells[1:1] = [seen, f"{track.faces_scored}/{track.faces}"]
            cells.append(_sparkline(result.timeline, track.number, policy, unicode=unicode))
        table.add_row(*cells, style="" if track.lasting and not track.doubt else "dim")
    return table


def _ascii_span(track: Track) -> str:
    return f"{clock(track.start_s)}-{clock(track.end_s)}"


def _coloured(text: str, p_fake: float, policy: Policy) -> Text:
    if p_fake >= policy.fake_above:
        return Text(text, style="red")
    return Text(text, style="green" if p_fake < policy.real_below else "yellow")


def _sparkline(timeline: Sequence[FaceScore], track: int, policy: Policy, *, unicode: bool) -> Text:
    """Draw the scores over time: a character an interval, its highest score as height and colour."""
    moments = sorted({(row.time_s, row.frame or 0) for row in timeline})
    cells = min(_SPARKLINE_WIDTH, len(moments))
    cell_of = {moment: place * cells // len(moments) for place, moment in enumerate(moments)}
    marks = _MARKS if unicode else _ASCII_MARKS
    scores: list[float | None] = [None] * cells
    present = [False] * cells
    for row in timeline:
        if row.track == track:
            cell = cell_of[(row.time_s, row.frame or 0)]
            present[cell] = True
            if row.p_fake is not None:
                scores[cell] = max(row.p_fake, scores[cell] or 0.0)
    line = Text()
    for height, seen in zip(scores, present, strict=True):
        if height is None:
            line.append(marks["unscored" if seen else "unseen"], style="dim")
        else:
            steps = _BLOCKS if unicode else _DIGITS
            line.append_text(_coloured(steps[min(int(height * len(steps)), len(steps) - 1)], height, policy))
    return line


def _legend(result: VideoResult, unicode: bool) -> str:
    marks = _MARKS if unicode else _ASCII_MARKS
    first, last = result.timeline[0].time_s, result.timeline[-1].time_s
    higher = "taller" if unicode else "9"
    legend = f"{clock(first)} to {clock(last)}, {higher} is more suspicious, {marks['unseen']} not seen, "
    legend += f"{marks['unscored']} unscored"
    hidden = len(result.tracks) - _PEOPLE_SHOWN
    return legend if hidden <= 0 else f"{legend}; {hidden} more in the timeline"


def _footer(result: VideoResult) -> str:
    frames = "one picture" if result.is_picture else f"{result.frames_sampled} frames sampled"
    facts = [frames, f"model {safe(result.model)}", duration(result.elapsed_s)]
    return ", ".join(geometry(result.info) + facts if result.info else facts)
