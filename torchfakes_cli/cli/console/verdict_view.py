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

from torchfakes_cli.cli.console.screen import Screen, duration
from torchfakes_cli.records import FaceScore, Status, Verdict, VideoResult
from torchfakes_cli.report.formatting import clock, geometry, safe, score
from torchfakes_cli.report.summary import ONE_VIEW, Person, Summary, Word, reason_words, summarize

#: People shown in the panel besides all those above the threshold; the rest are in the timeline.
_PEOPLE_SHOWN = 8
_PANEL_WIDTH = 100
#: Longer paths push what follows them out of its column.
_PATH_WIDTH = 60
#: Fits beside the other columns on 80, and gives each of 32 samples its own character.
_SPARKLINE_WIDTH = 32

_STYLES = {Verdict.FAKE: "bold red", Verdict.REAL: "bold green", Verdict.INCONCLUSIVE: "bold yellow"}
_PERSON_STYLES = {Word.FAKE: "red", Word.REAL: "green", Word.BETWEEN: "yellow"}

_BLOCKS = "▁▂▃▄▅▆▇█"
_DIGITS = "0123456789"
#: Characters for "not seen" and "seen, but not scored".
_MARKS, _ASCII_MARKS = ("·", "░"), (".", "~")


def verdict_line(result: VideoResult, path_width: int = 0) -> Text:
    """Format one line of a batch: verdict, ``p_fake``, path, and the reason if the verdict isn't firm.

    Args:
        result: result of the file.
        path_width: length of the longest path in the batch, so that what follows the paths is aligned.
    """
    path = safe(result.path)
    path += " " * (min(path_width, _PATH_WIDTH) - cell_len(path))
    if result.status is Status.ERROR:
        return Text.assemble(("error".ljust(12), "bold red"), " " * 8, path, "  ", (safe(result.error), "red"))
    verdict = result.verdict or Verdict.INCONCLUSIVE
    notes = [reason_words(result.reason, picture=result.is_picture), "one picture" if result.is_picture else ""]
    line = Text.assemble((verdict.value.ljust(12), _STYLES[verdict]), "  ", score(result.p_fake).ljust(4), "  ", path)
    line.append(f"  {', '.join(filter(None, notes))}", style="dim")
    line.rstrip()
    return line


def show_verdict(result: VideoResult, screen: Screen) -> None:
    """Print the verdict on one clip: in a box on a terminal that is wide enough, and with unbroken lines in a pipe."""
    panel = verdict_panel(result, unicode=screen.unicode, boxed=screen.boxed)
    screen.result(panel, wraps=screen.is_terminal)


def verdict_panel(result: VideoResult, *, unicode: bool = True, boxed: bool = True) -> RenderableType:
    """Make the panel of one clip: verdict, its meaning, people and times.

    Args:
        result: result with status ``ok``.
        unicode: True if block characters can be shown.
        boxed: draw a box around it.
    """
    summary = summarize(result)
    style = _STYLES[summary.verdict]
    path = Text(safe(result.path), style="bold")
    parts: list[RenderableType] = [] if boxed else [path]
    parts += [
        Text.assemble((summary.verdict.value.upper(), style), f"   {summary.score_line}"),
        Text(summary.headline),
        Text(summary.proof),
        *([Text(summary.measured, style="dim")] if summary.measured else []),
        Text(f"Next: {summary.next_step} {summary.options}".rstrip()),
    ]
    if summary.people:
        parts += [Text(), _people(result, summary, unicode=unicode)]
        parts.append(Text(ONE_VIEW if result.is_picture else _legend(result, unicode), style="dim"))
    parts += [Text(), Text(_footer(result), style="dim")]
    if not boxed:
        return Group(*parts)
    panel = Panel(
        Group(*parts),
        title=path,
        title_align="left",
        box=box.ROUNDED if unicode else box.ASCII,
        border_style=style.removeprefix("bold "),
        padding=(0, 1),
    )
    return Constrain(panel, _PANEL_WIDTH)


def _people(result: VideoResult, summary: Summary, *, unicode: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("person", justify="right")
    if not result.is_picture:
        table.add_column("seen")
        table.add_column("scored", justify="right")
    table.add_column("p_fake", justify="right")
    if not result.is_picture:
        table.add_column("over time", no_wrap=True)
    for person in summary.people[: _shown(result)]:
        track = person.track
        absent = "—" if unicode else "-"
        cells: list[RenderableType] = [
            str(track.number),
            Text(score(track.p_fake) or absent, style=_PERSON_STYLES.get(person.word, "")),
        ]
        if not result.is_picture:
            to = "–" if unicode else "-"
            cells[1:1] = [f"{clock(track.start_s)}{to}{clock(track.end_s)}", f"{track.faces_scored}/{track.faces}"]
            cells.append(_sparkline(result, person, unicode=unicode))
        table.add_row(*cells, style="" if track.lasting and not track.doubt else "dim")
    return table


def _shown(result: VideoResult) -> int:
    return max(_PEOPLE_SHOWN, len(result.flagged))


def _sparkline(result: VideoResult, person: Person, *, unicode: bool) -> Text:
    """Draw the scores over time: a character an interval, its highest score as height and color."""
    moments = sorted({(row.time_s, row.frame or 0) for row in result.timeline})
    cells = min(_SPARKLINE_WIDTH, len(moments))
    cell_of = {moment: place * cells // len(moments) for place, moment in enumerate(moments)}
    rows: list[list[FaceScore]] = [[] for _ in range(cells)]
    for row in result.timeline:
        if row.track == person.track.number:
            rows[cell_of[(row.time_s, row.frame or 0)]].append(row)
    line = Text()
    for seen in rows:
        line.append(*_character([row.p_fake for row in seen], result, unicode=unicode))
    return line


def _character(scores: Sequence[float | None], result: VideoResult, *, unicode: bool) -> tuple[str, str]:
    """Return the character of an interval, and its style."""
    steps, marks = (_BLOCKS, _MARKS) if unicode else (_DIGITS, _ASCII_MARKS)
    highest = max((score for score in scores if score is not None), default=None)
    if highest is None:
        return marks[1 if scores else 0], "dim"
    low, high = result.real_below or 0.0, result.fake_above or 0.0
    style = "red" if highest >= high else "green" if highest < low else "yellow"
    return steps[min(int(highest * len(steps)), len(steps) - 1)], style


def _legend(result: VideoResult, unicode: bool) -> str:
    unseen, unscored = _MARKS if unicode else _ASCII_MARKS
    first, last = result.timeline[0].time_s, result.timeline[-1].time_s
    higher = "taller" if unicode else "9"
    legend = f"{clock(first)} to {clock(last)}, {higher} is more suspicious, {unseen} not seen, {unscored} unscored"
    hidden = len(result.tracks) - _shown(result)
    return legend if hidden <= 0 else f"{legend}; {hidden} more in the timeline"


def _footer(result: VideoResult) -> str:
    frames = "one picture" if result.is_picture else f"{result.frames_sampled} frames sampled"
    facts = [frames, f"model {safe(result.model)}", duration(result.elapsed_s)]
    return ", ".join(geometry(result.info) + facts if result.info else facts)
