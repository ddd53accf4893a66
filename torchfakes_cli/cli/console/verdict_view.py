"""How a result looks: one line of a batch, or the panel of a single clip."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from torchfakes_cli.cli.console.screen import duration, safe
from torchfakes_cli.records import FaceScore, Reason, Status, Track, Verdict, VideoInfo, VideoResult
from torchfakes_cli.scan.verdict import Policy, by_suspicion

#: People shown in the panel; the rest stand in the timeline.
_PEOPLE_SHOWN = 8
_PANEL_WIDTH = 100
#: Fits beside the other columns on 80, and gives each of 32 samples its own character.
_SPARKLINE_WIDTH = 32

_STYLES = {Verdict.FAKE: "bold red", Verdict.REAL: "bold green", Verdict.INCONCLUSIVE: "bold yellow"}

_WHY_INCONCLUSIVE = {
    Reason.NO_FACE: "No face was found in the {frames}. Try --min-face for smaller faces, or --fps to look at more.",
    Reason.ALL_BLURRY: "Faces were found, but none sharp enough to score. Try --fps to look at more frames; "
    "--blur-threshold 0 scores them anyway.",
    Reason.TOO_FEW_FACES: "Too few sharp faces of any one person for a firm verdict. Try --fps to look at more frames.",
    Reason.DAMAGED: "Too much of the video is damaged for a firm verdict. Copy or download it again.",
    Reason.BETWEEN_THRESHOLDS: "The most suspicious face scores between what is called real (below {real:.2f}) and "
    "what is called fake (from {fake:.2f}).",
}

_WHY_OF_A_PICTURE = {
    **_WHY_INCONCLUSIVE,
    Reason.NO_FACE: "No face was found in the picture. Try --min-face for smaller faces.",
    Reason.ALL_BLURRY: "Faces were found, but none sharp enough to score; --blur-threshold 0 scores them anyway.",
    Reason.DAMAGED: "The picture is damaged. Copy or download it again.",
}

_ONE_VIEW = "One view of a face tells less than a video, which the detector was calibrated on."

_BLOCKS = "▁▂▃▄▅▆▇█"
_DIGITS = "0123456789"
_MARKS = {"unseen": "·", "unscored": "░"}
_ASCII_MARKS = {"unseen": ".", "unscored": "~"}


def verdict_line(result: VideoResult) -> Text:
    """One line of a batch: verdict, ``p_fake``, path, and why where there is no firm verdict."""
    if result.status is Status.ERROR:
        return Text.assemble(
            ("error".ljust(12), "bold red"), "        ", safe(result.path), "  ", (safe(result.error), "red")
        )
    verdict = result.verdict or Verdict.INCONCLUSIVE
    score = "" if result.p_fake is None else f"{result.p_fake:.2f}"
    line = Text.assemble((verdict.value.ljust(12), _STYLES[verdict]), "  ", score.ljust(4), "  ", safe(result.path))
    if result.reason:
        line.append(f"  {result.reason.value}", style="dim")
    if result.is_picture:
        line.append("  one picture", style="dim")
    return line


def verdict_panel(result: VideoResult, policy: Policy, *, unicode: bool = True) -> RenderableType:
    """Everything a person wants to know of one clip: verdict, what it means, who was seen, and when.

    Args:
        result: with status ``ok``.
        policy: that made the verdict.
        unicode: whether block characters can be shown.
    """
    verdict = result.verdict or Verdict.INCONCLUSIVE
    headline = Text.assemble((verdict.value.upper(), _STYLES[verdict]))
    if result.p_fake is not None:
        headline.append(f"   p_fake {result.p_fake:.2f}")
    parts: list[RenderableType] = [headline, Text(_meaning(result, policy))]
    if result.tracks:
        parts += [Text(), _people(result, policy, unicode=unicode)]
        legend = _ONE_VIEW if result.is_picture else _legend(result, unicode)
        parts.append(Text(legend, style="dim"))
    parts += [
        Text(),
        Text(_footer(result), style="dim"),
        Text("A low score is no proof of authenticity.", style="dim"),
    ]
    panel = Panel(
        Group(*parts),
        title=Text(safe(result.path), style="bold"),
        title_align="left",
        box=box.ROUNDED if unicode else box.ASCII,
        border_style=_STYLES[verdict].removeprefix("bold "),
        padding=(0, 1),
    )
    return Constrain(panel, _PANEL_WIDTH)


def _clock(seconds: float) -> str:
    """Seconds as a player shows them: m:ss, or h:mm:ss."""
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _meaning(result: VideoResult, policy: Policy) -> str:
    """The verdict in plain words."""
    if result.reason:
        frames = "one frame looked at" if result.frames_sampled == 1 else f"{result.frames_sampled} frames looked at"
        words = (_WHY_OF_A_PICTURE if result.is_picture else _WHY_INCONCLUSIVE)[result.reason]
        return words.format(frames=frames, real=policy.real_below, fake=policy.fake_above)
    percent = f"{100 * (result.p_fake or 0):.0f}%"
    if result.verdict is Verdict.FAKE:
        when = f", most of all at {_clock(result.peak_time_s or 0)}"
        if result.is_picture:
            when = ", by this one picture"
        return f"Person {_deciding(result)} looks synthetic ({percent} likely){when}."
    if result.is_picture:
        return f"No clear sign of a synthetic face in this one picture ({percent} likely for the most suspicious one)."
    if sum(track.lasting for track in result.tracks) > 1:
        return f"Nobody seen for long looks synthetic ({percent} likely for the most suspicious person)."
    return f"No clear sign of a synthetic face ({percent} likely to be one)."


def _deciding(result: VideoResult) -> int:
    """Number of the track that the verdict rests on."""
    lasting = [track for track in result.tracks if track.lasting]
    return max(lasting, key=lambda track: track.logit or 0.0).number


def _people(result: VideoResult, policy: Policy, *, unicode: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("person", justify="right")
    if not result.is_picture:
        table.add_column("seen")
        table.add_column("scored", justify="right")
    table.add_column("p_fake", justify="right")
    if not result.is_picture:
        table.add_column("over time", no_wrap=True)
    for track in by_suspicion(result.tracks)[:_PEOPLE_SHOWN]:
        score = Text("—" if unicode else "-")
        if track.p_fake is not None:
            score = _coloured(f"{track.p_fake:.2f}", track.p_fake, policy)
        cells: list[RenderableType] = [str(track.number), score]
        if not result.is_picture:
            seen = f"{_clock(track.start_s)}–{_clock(track.end_s)}" if unicode else _ascii_span(track)
            cells[1:1] = [seen, f"{track.faces_scored}/{track.faces}"]
            cells.append(_sparkline(result.timeline, track.number, policy, unicode=unicode))
        table.add_row(*cells, style="" if track.lasting else "dim")
    return table


def _ascii_span(track: Track) -> str:
    return f"{_clock(track.start_s)}-{_clock(track.end_s)}"


def _coloured(text: str, p_fake: float, policy: Policy) -> Text:
    if p_fake >= policy.fake_above:
        return Text(text, style="red")
    return Text(text, style="green" if p_fake < policy.real_below else "yellow")


def _sparkline(timeline: Sequence[FaceScore], track: int, policy: Policy, *, unicode: bool) -> Text:
    """One character a stretch of the clip: its most suspicious score as height and colour, or why there is none."""
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
    for score, seen in zip(scores, present, strict=True):
        if score is None:
            line.append(marks["unscored" if seen else "unseen"], style="dim")
        else:
            steps = _BLOCKS if unicode else _DIGITS
            line.append_text(_coloured(steps[min(int(score * len(steps)), len(steps) - 1)], score, policy))
    return line


def _legend(result: VideoResult, unicode: bool) -> str:
    marks = _MARKS if unicode else _ASCII_MARKS
    first, last = result.timeline[0].time_s, result.timeline[-1].time_s
    higher = "taller" if unicode else "9"
    legend = f"{_clock(first)} to {_clock(last)}, {higher} is more suspicious, {marks['unseen']} not seen, "
    legend += f"{marks['unscored']} unscored"
    hidden = len(result.tracks) - _PEOPLE_SHOWN
    return legend if hidden <= 0 else f"{legend}; {hidden} more in the timeline"


def _footer(result: VideoResult) -> str:
    frames = "one picture" if result.is_picture else f"{result.frames_sampled} frames looked at"
    facts = [frames, f"model {safe(result.model)}", duration(result.elapsed_s)]
    return ", ".join(_of_video(result.info) + facts if result.info else facts)


def _of_video(info: VideoInfo) -> list[str]:
    facts = [f"{info.width}x{info.height}"]
    if info.fps is not None:
        facts.append(f"{float(info.fps):.4g} fps")
    if info.duration_s is not None:
        facts.append(_clock(info.duration_s))
    return facts
