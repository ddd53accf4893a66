from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from tests.report.results import failure, result
from torchfakes_cli.cli.console import Screen, duration, safe, show_verdict, verdict_line, verdict_panel
from torchfakes_cli.records import FaceScore, Verdict
from torchfakes_cli.scan.verdict import Policy, decide

POLICY = Policy(fake_above=0.7, real_below=0.3, min_faces=3, trim=0.1)


def shown(content: object, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False)
    console.print(content)
    return console.file.getvalue()  # type: ignore[attr-defined]


def scanned(*people: list[float | None]):
    """A result with people seen from the start, one score a second; None where the face was not there."""
    from dataclasses import replace

    rows = []
    for second in range(max(map(len, people), default=1)):
        present = [(number, scores[second]) for number, scores in enumerate(people, 1) if second < len(scores)]
        seen = [(number, p) for number, p in present if p is not None]
        rows += [FaceScore(float(second), second, number, None, 99.0, 20 * (p - 0.5), p) for number, p in seen]
        if not seen:
            rows.append(FaceScore(float(second), second, note="no_face"))
    decision = decide(rows, POLICY, lambda logit: logit / 20 + 0.5)
    return replace(
        result("clips/interview.mp4"),
        verdict=decision.verdict,
        reason=decision.reason,
        p_fake=decision.p_fake,
        peak_time_s=decision.peak_time_s,
        tracks=decision.tracks,
        fake_above=POLICY.fake_above,
        real_below=POLICY.real_below,
        timeline=tuple(rows),
        frames_sampled=len({row.time_s for row in rows}),
    )


def test_the_panel_says_who_looks_fake_and_when() -> None:
    panel = shown(verdict_panel(scanned([0.1] * 8, [0.9, 0.99, None, None, 0.9, 0.9])))
    assert "FAKE" in panel
    assert "Person 2 looks synthetic to this detector: score 0.90 (fake from 0.70)" in panel
    assert "Next: Look closely at 0:01 (person 2)" in panel
    assert "██··██··" in panel  # the gap in person 2's time is seen
    assert panel.index("0.90") < panel.index("0.10")  # the most suspicious comes first
    assert "A high score is no proof of forgery." in panel
    assert "likely" not in panel


@pytest.mark.parametrize("unicode", [True, False])
def test_the_panel_fits_80_columns_and_keeps_its_edges(unicode: bool) -> None:
    people = [[0.1 * (number % 10)] * 40 for number in range(12)]
    lines = shown(verdict_panel(scanned(*people), unicode=unicode)).splitlines()
    assert {len(line) for line in lines} == {80}
    assert not any("…" in line for line in lines)
    assert any("4 more in" in line for line in lines)
    assert unicode or all(line.isascii() for line in lines)


@pytest.mark.parametrize(("terminal", "width", "boxed"), [("1", "70", True), ("1", "69", False), ("0", "120", False)])
def test_a_box_is_drawn_on_a_wide_terminal_only(
    terminal: str, width: str, boxed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", terminal)
    monkeypatch.setenv("COLUMNS", width)
    show_verdict(scanned([0.9] * 5), Screen())
    out = capsys.readouterr().out
    assert ("╭" in out) == boxed
    assert "clips/interview.mp4" in out
    # Lines in a pipe are whole, for programs that search them.
    (step,) = [line for line in out.splitlines() if "Next: " in line]
    assert step.endswith("and try another tool.") == (terminal == "0")


@pytest.mark.parametrize(
    ("people", "verdict", "words"),
    [
        ([[0.1] * 5], "REAL", "No sign of a synthetic face was found. That is no proof of authenticity."),
        ([[0.1] * 5, [0.2] * 5], "REAL", "The highest score is 0.20 (person 2; real below 0.30)."),
        ([[0.5] * 5], "INCONCLUSIVE", "between the thresholds (real below 0.30, fake from 0.70)"),
        ([[0.9, None, None, None]], "INCONCLUSIVE", "Too few sharp faces"),
        ([], "INCONCLUSIVE", "No face was found in the one frame sampled"),
    ],
)
def test_verdicts_are_explained_in_plain_words(people: list[list[float | None]], verdict: str, words: str) -> None:
    panel = " ".join(shown(verdict_panel(scanned(*people)), width=120).replace("│", " ").split())
    assert verdict in panel
    assert words in panel


def test_a_batch_line_has_verdict_score_path_and_reason() -> None:
    assert verdict_line(result()).plain == "inconclusive  0.22  clip.mp4  too few sharp faces"
    assert verdict_line(failure()).plain == "error               broken.mp4  empty file. Copy it again."
    assert verdict_line(scanned([0.9] * 5)).plain.split() == [Verdict.FAKE, "0.90", "clips/interview.mp4"]


@pytest.mark.parametrize(
    ("name", "on_screen"),
    [
        ("clip.mp4", "clip.mp4"),
        ("a\x1b[31mred\x1b[0m.mp4", "ared.mp4"),
        ("a\x1b]0;title\x07.mp4", "a]0;title.mp4"),
        ("evil\u202e4pm.exe", "evil4pm.exe"),
        ("two\nlines\tand\rmore", "two lines and more"),
        ("\x9b31mcsi", "31mcsi"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), "caf\\xe9"),
        ("日本 👩‍👧.mp4", "日本 👩‍👧.mp4"),
        ("[bold]markup[/bold] :smile:", "[bold]markup[/bold] :smile:"),
    ],
)
def test_names_cannot_misuse_the_terminal(name: str, on_screen: str) -> None:
    assert safe(name) == on_screen


def test_names_reach_the_screen_as_they_are_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.result(verdict_line(result("[red]x[/red] :smile: " + "long " * 40 + "\x1b[2J.mp4")))
    screen.error("broken\n\x1b[2J.mp4: bad")
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert "[red]x[/red] :smile: long" in out
    assert err == "error: broken .mp4: bad\n"
    assert "\x1b" not in out + err


def test_progress_without_a_terminal_is_told_in_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torchfakes_cli.cli.console.screen._TELL_EACH_S", 0.0)
    with Screen().progress("cutting corpus", "files") as advance:
        for done in (20, 30, 40):  # a continued run begins with 20
            advance(done, 40)
    line = re.escape("cutting corpus: 30 of 40 files, about ")
    assert re.fullmatch(f"{line}.* left\n", capsys.readouterr().err)


def test_quiet_leaves_errors(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(quiet=True)
    screen.note("note")
    screen.warning("warning")
    screen.error("error")
    assert capsys.readouterr() == ("", "error: error\n")


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_color_can_be_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for other in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # Rich takes the captured stream for a terminal
    monkeypatch.setenv(name, value)
    Screen().result(verdict_line(result()))
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(4.24, "4.2 s"), (59.96, "1 min 0 s"), (80, "1 min 20 s"), (3600, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
