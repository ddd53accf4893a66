"""The command as a user meets it: what it prints, writes and returns."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tests.people import natural
from tests.report.tables import rows, timeline
from torchfakes_cli.cli import app
from torchfakes_cli.files import sha256_of
from torchfakes_cli.report import TIMELINE_COLUMNS
from torchfakes_cli.video.probing import examine


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is empty and none of the videos'."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def scan(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["scan", *map(str, arguments)], catch_exceptions=False)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_one_clip_gives_a_verdict_and_a_timeline_in_the_current_folder(
    clips: Path, model: Path, elsewhere: Path
) -> None:
    before = sorted(clips.iterdir())
    ended = scan(clips / "face.mp4", "--model", model, "--frames", 4)
    assert ended.exit_code == 0
    assert "FAKE" in ended.stdout
    assert "Person 1 looks synthetic" in ended.stdout
    assert "A high score is no proof of forgery." in ended.stdout
    assert "timeline:" in ended.stderr
    made = elsewhere / "face.timeline.csv"
    assert sorted(clips.iterdir()) == before
    assert made.read_text().startswith(",".join(TIMELINE_COLUMNS))
    assert [row["track"] for row in table(made)] == ["1"] * 4
    assert all(float(row["p_fake"]) > 0.7 for row in table(made))


def test_a_picture_gets_a_verdict_that_says_it_is_one(clips: Path, model: Path) -> None:
    photo = clips / "photo.png"
    Image.fromarray(natural()).save(photo)
    ended = scan(photo, "--model", model)
    assert ended.exit_code == 0
    assert "FAKE" in ended.stdout
    assert "by this one picture" in ended.stdout
    assert "over time" not in ended.stdout
    assert "A single view of a face tells less than a video" in ended.stdout
    assert "timeline" not in ended.stderr
    document = json.loads(scan(photo, "--model", model, "--json").stdout)
    assert (document["video"]["picture"], document["video"]["duration_s"], document["frames_sampled"]) == (
        True,
        None,
        1,
    )


def test_a_device_that_is_not_there_costs_a_warning(clips: Path, model: Path) -> None:
    ended = scan(clips / "face.mp4", "--model", model, "--frames", 1, "--hwaccel", "toast", "--json")
    assert ended.exit_code == 0
    assert "toast can't be used" in ended.stderr
    (warning,) = json.loads(ended.stdout)["warnings"]
    assert warning.endswith("decoded in software")


@pytest.mark.parametrize(
    "ending", [".csv", *(pytest.param(ending, marks=pytest.mark.slow) for ending in (".jsonl", ".sqlite", ".parquet"))]
)
def test_output_is_a_table_for_one_clip_too(clips: Path, model: Path, elsewhere: Path, ending: str) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    results = Path(f"results{ending}")
    command = (clips / "face.mp4", "-o", results, "--model", model, "--frames", 3)
    assert scan(*command, "--no-timeline").exit_code == 0
    (row,) = rows(results)
    assert (row.path, row.status, row.verdict, row.people_flagged) == (str(clips / "face.mp4"), "ok", "fake", 1)
    assert row.sha256 == sha256_of(clips / "face.mp4")
    assert (row.real_below, row.fake_above, row.warnings) == (0.5, 0.5, None)
    assert datetime.now(UTC) - datetime.fromisoformat(str(row.scanned_at)) < timedelta(minutes=5)
    assert sorted(path.name for path in elsewhere.iterdir()) == [results.name, f"{results.name}.journal"]
    if ending == ".sqlite":
        assert len(timeline(results, row.path)) == 3
    if ending == ".csv":
        again = scan(*command, "--timeline", "mine.csv")
        assert "FAKE" in again.stdout
        assert scan(clips / "broken.mp4", "-o", results).exit_code == 1
        assert [(Path(row.path).name, row.status) for row in rows(results)] == [
            ("face.mp4", "ok"),
            ("broken.mp4", "error"),
        ]
        assert len(table(Path("mine.csv"))) == 3
        assert not Path("face.timeline.csv").exists()


def test_day_two_is_added_to_the_table_of_day_one(clips: Path, model: Path, tmp_path: Path) -> None:
    results, second = tmp_path / "results.csv", tmp_path / "two" / "again.mp4"
    second.parent.mkdir()
    second.write_bytes((clips / "empty.mp4").read_bytes())
    scan(clips, "-o", results, "--model", model, "--frames", 2, "--exclude", "broken*")
    before = rows(results)
    ended = scan(second.parent, "-o", results, "--model", model, "--frames", 2)
    assert "2 rows of other files stay" in ended.stderr
    assert rows(results)[:2] == before
    assert [Path(row.path).name for row in rows(results)] == ["empty.mp4", "face.mp4", "again.mp4"]
    (clips / "face.mp4").unlink()
    ended = scan(second.parent, "-o", results, "--model", model, "--frames", 2, "--prune", "-q")
    assert ended.stderr == f"1 row of files that are gone removed from {results}\n"
    assert [Path(row.path).name for row in rows(results)] == ["empty.mp4", "again.mp4"]


def test_a_folder_gives_a_line_each_and_writes_nothing(clips: Path, model: Path, elsewhere: Path) -> None:
    before = sorted(clips.iterdir())
    ended = scan(clips, "--model", model, "--frames", 3)
    assert ended.exit_code == 3
    assert sorted(clips.iterdir()) == before
    assert list(elsewhere.iterdir()) == []
    empty, face = ended.stdout.splitlines()
    assert empty.split() == ["inconclusive", str(clips / "empty.mp4"), "no", "face", "found"]
    assert face.split()[0] == "fake"
    assert "broken.mp4" in ended.stderr
    assert "3 files in" in ended.stderr
    assert "1 fake, 1 inconclusive, 1 error" in ended.stderr


def test_a_folder_with_output_gives_one_row_a_file_and_nothing_else(clips: Path, model: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.csv"
    ended = scan(clips, "-o", results, "--model", model, "--frames", 3, "-q", "--format", "tsv", "--fail-on-fake")
    assert ended.exit_code == 4
    rows = table(results)
    assert [Path(row["path"]).name for row in rows] == ["broken.mp4", "empty.mp4", "face.mp4"]
    assert [row["status"] for row in rows] == ["error", "ok", "ok"]
    assert [row["verdict"] for row in rows] == ["", "inconclusive", "fake"]
    assert rows[2]["model"] == "random"
    lines = [line.split("\t") for line in ended.stdout.splitlines()]
    assert [line[1] for line in lines] == ["error", "inconclusive", "fake"]
    assert [line[2] for line in lines] == ["", "", rows[2]["p_fake"]]
    (error,) = ended.stderr.splitlines()
    assert "broken.mp4" in error
    quiet = scan(clips, "--model", model, "--frames", 3, "-q")
    assert (quiet.stdout, quiet.exit_code) == ("", 3)
    assert "broken.mp4" in quiet.stderr


def test_the_same_command_goes_on(clips: Path, model: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.csv"
    command = (clips, "-o", results, "--model", model, "--frames", 3)
    scan(*command)
    before = table(results)
    (clips / "added.mp4").write_bytes((clips / "empty.mp4").read_bytes())
    ended = scan(*command, "--fail-on-fake")
    assert ended.exit_code == 4  # rows that are kept count
    (line,) = ended.stdout.splitlines()
    assert "added.mp4" in line
    assert "2 rows of an earlier run kept" in ended.stderr
    assert "1 row with an error: scanned again" in ended.stderr
    assert "4 files in" in ended.stderr
    assert "1 fake, 2 inconclusive, 1 error; 2 of them kept from an earlier run" in ended.stderr
    assert [Path(row["path"]).name for row in table(results)] == ["added.mp4", "broken.mp4", "empty.mp4", "face.mp4"]
    assert table(results)[2:] == before[1:]
    changed = scan(*command, "--threshold", 0.99)
    assert "kept" not in changed.stderr
    assert [row["verdict"] for row in table(results)] == ["inconclusive", "", "inconclusive", "real"]


@pytest.mark.parametrize(
    "ending",
    [pytest.param(".jsonl", marks=pytest.mark.slow), ".sqlite", pytest.param(".parquet", marks=pytest.mark.slow)],
)
def test_the_ending_of_the_output_chooses_its_format(clips: Path, model: Path, tmp_path: Path, ending: str) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    results, timelines = tmp_path / f"results{ending}", tmp_path / "timelines"
    command = (clips, "-o", results, "--timelines", timelines, "--model", model, "--frames", 2)
    assert scan(*command).exit_code == 3
    assert sorted(path.name for path in timelines.iterdir()) == ["empty.timeline.csv", "face.timeline.csv"]
    broken, empty, face = rows(results)
    assert (broken.status, broken.verdict, empty.verdict, empty.p_fake) == ("error", None, "inconclusive", None)
    assert face.verdict == "fake"
    (timelines / "face.timeline.csv").unlink()
    ended = scan(*command, "--fail-on-fake")
    assert ended.exit_code == 4
    assert "1 row of an earlier run kept" in ended.stderr
    assert (timelines / "face.timeline.csv").exists()
    again = rows(results)
    assert [row.path for row in again] == [str(clips / f"{name}.mp4") for name in ("broken", "empty", "face")]
    assert again[1] == empty
    if ending == ".sqlite":
        assert [row[-2] for row in timeline(results, face.path)] == [face.p_fake] * 2


def test_timelines_of_a_batch_go_into_a_folder_like_theirs(clips: Path, model: Path, tmp_path: Path) -> None:
    (clips / "more").mkdir()
    (clips / "face.mp4").rename(clips / "more" / "face.mp4")
    results, timelines = tmp_path / "results.csv", tmp_path / "new" / "timelines"
    command = (clips, "-o", results, "--timelines", timelines, "--model", model, "--frames", 2)
    assert scan(*command).exit_code == 3
    found = sorted(path.relative_to(timelines).as_posix() for path in timelines.rglob("*.csv"))
    assert found == ["empty.timeline.csv", "more/face.timeline.csv"]
    (timelines / "empty.timeline.csv").unlink()
    ended = scan(*command, "--format", "tsv")
    assert [Path(line.split("\t")[0]).name for line in ended.stdout.splitlines()] == ["broken.mp4", "empty.mp4"]
    assert (timelines / "empty.timeline.csv").exists()
    assert scan(clips / "empty.mp4", "--timeline", "a.csv", "--timelines", timelines).exit_code == 2
    assert scan(clips, "--timeline", "a.csv").exit_code == 2


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
def test_a_list_of_paths_is_read_from_standard_input(clips: Path, model: Path, separator: str) -> None:
    names = [clips / "two\nlines.mp4" if separator == "\0" and os.name == "posix" else clips / "b.mp4", clips / "a.mp4"]
    for name in names:
        name.write_bytes((clips / "empty.mp4").read_bytes())
    arguments = ["scan", "-", "--model", str(model), "--frames", "2", "--json"]
    listing = separator.join(map(str, names)) + separator + ("  " + separator if separator != "\0" else "")
    ended = CliRunner().invoke(app, arguments, input=listing.encode(), catch_exceptions=False)
    assert ended.exit_code == 0
    assert [json.loads(line)["path"] for line in ended.stdout.splitlines()] == list(map(str, names))


def test_an_empty_list_is_told() -> None:
    ended = CliRunner().invoke(app, ["scan", "-"], input=b"\n")
    assert ended.exit_code == 1
    assert "the list of paths is empty. Write one path a line" in ended.stderr


def test_globs_choose_in_a_folder(clips: Path, model: Path) -> None:
    ended = scan(clips, "--include", "e*", "--include", "f*", "--exclude", "face*", "--model", model, "--format", "tsv")
    assert [Path(line.split("\t")[0]).name for line in ended.stdout.splitlines()] == ["empty.mp4"]
    nothing = scan(clips, "--include", "*.xyz")
    assert nothing.exit_code == 1
    assert "Nothing matches --include '*.xyz'" in nothing.stderr
    some = scan(clips, "--include", "*.xyz", "--include", "empty*", "--model", model, "--frames", 2)
    assert "warning: nothing matches --include '*.xyz'" in some.stderr


def test_pictures_in_folders_count_and_the_log_names_what_is_skipped(clips: Path, model: Path) -> None:
    Image.fromarray(natural()).save(clips / "photo.png")
    for name in ("notes.txt", ".git/a.mp4"):
        (clips / name).parent.mkdir(exist_ok=True)
        (clips / name).touch()
    ended = scan(clips, "--exclude", "*.mp4", "--model", model, "-v")
    assert "photo.png" in ended.stdout
    assert "4 other files skipped; hidden files and folders skipped: 1" in ended.stderr
    log = subprocess.run(
        [sys.executable, "-m", "torchfakes_cli", "scan", clips, "--exclude", "*.mp4", "--model", model, "-v"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert all(f"{clips / name} is skipped" in log for name in ("notes.txt", ".git", "face.mp4"))


def test_json_lines_of_many_and_nothing_else_on_stdout(clips: Path, model: Path) -> None:
    ended = scan(clips / "empty.mp4", clips / "missing.mp4", "--json", "--model", model, "--frames", 2)
    assert ended.exit_code == 3
    scanned, failed = map(json.loads, ended.stdout.splitlines())
    assert (scanned["status"], scanned["reason"], len(scanned["timeline"])) == ("ok", "no_face", 2)
    assert (failed["status"], failed["verdict"]) == ("error", None)


def test_a_threshold_answers_with_two_words_only(clips: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine.csv"
    ended = scan(
        clips / "face.mp4", "--json", "--threshold", 0.999, "--model", model, "--frames", 3, "--timeline", output
    )
    assert json.loads(ended.stdout)["verdict"] == "real"
    assert len(table(output)) == 3


def test_what_is_wrong_with_a_file_is_one_line(clips: Path, model: Path) -> None:
    ended = scan(clips / "broken.mp4", "--model", model)
    assert ended.exit_code == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"error: {clips / 'broken.mp4'}: ")


def test_json_tells_of_a_failure_too(tmp_path: Path) -> None:
    ended = scan(tmp_path / "missing.mp4", "--json")
    assert ended.exit_code == 1
    document = json.loads(ended.stdout)
    assert (document["status"], document["error"]) == ("error", "no such file. Check the name and the folder.")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rtsp://example.org/clip.mp4"], "Download"),
        (["clip.mp4", "--frames", "0"], "at least one frame"),
        (["clip.mp4", "--frames", "5", "--fps", "2"], "not both"),
        (["clip.mp4", "--start", "0:10", "--end", "5"], "after the start"),
        (["clip.mp4", "--threshold", "1.5"], "between 0 and 1"),
        (["clip.mp4", "--min-face", "2"], "12 pixels"),
        (["clip.mp4", "--fps", "0"], "--fps 1"),
        (["clip.mp4", "-o", "results.xlsx"], ".csv"),
        (["clip.mp4", "-o", "clip.mp4"], "can't be one file"),
        (["clip.mp4", "--prune"], "-o"),
    ],
)
def test_what_makes_no_sense_is_code_2_and_one_line(arguments: list[str], words: str) -> None:
    ended = scan(*arguments, "--json")
    assert ended.exit_code == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert words in line


def test_a_missing_model_is_told_with_advice(clips: Path, tmp_path: Path) -> None:
    for target in (clips / "empty.mp4", clips):
        ended = scan(target, "--model", tmp_path / "missing.safetensors", "-o", tmp_path / "results.csv")
        assert ended.exit_code == 1
        (line,) = ended.stderr.splitlines()
        assert "missing.safetensors" in line
        assert "--model" in line
    assert not (tmp_path / "results.csv").exists()


def test_a_folder_without_videos_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    ended = scan(tmp_path)
    assert ended.exit_code == 1
    assert "no video or picture found among 1 files" in ended.stderr


def test_a_video_of_the_folder_is_no_table_even_with_force(clips: Path) -> None:
    before = (clips / "face.mp4").read_bytes()
    ended = scan(clips, "-o", clips / "face.mp4", "--force", "--model", "never loaded")
    assert ended.exit_code == 2
    assert "can't be one file" in ended.stderr
    assert (clips / "face.mp4").read_bytes() == before


@pytest.mark.parametrize("target", ["face.mp4", ""])
def test_a_file_in_the_way_is_kept_and_told_before_anything_is_scanned(clips: Path, target: str) -> None:
    diary = clips / "diary.csv"
    diary.write_text("dear diary\n")
    ended = scan(clips / target, "-o", diary, "--model", "never loaded")
    assert ended.exit_code == 1
    assert "--force" in ended.stderr
    assert diary.read_text() == "dear diary\n"


def test_a_timeline_that_cannot_be_written_costs_no_verdict(
    clips: Path, model: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere / "face.timeline.csv").write_text("dear diary\n")
    ended = scan(clips / "face.mp4", "--model", model, "--frames", 3)
    assert ended.exit_code == 1
    assert "FAKE" in ended.stdout
    assert ended.stderr.splitlines()[-1].startswith("error: face.timeline.csv: exists and is not a timeline")
    assert "--timeline" in ended.stderr
    assert (elsewhere / "face.timeline.csv").read_text() == "dear diary\n"
    if Path("/proc/self").exists():
        monkeypatch.chdir("/proc")  # an administrator can't write here either
        ended = scan(clips / "face.mp4", "--model", model, "--frames", 3)
        assert ended.exit_code == 1
        assert "FAKE" in ended.stdout
        assert "the folder can't be written" in ended.stderr


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="an administrator may write everywhere")
def test_a_folder_that_cannot_be_written_is_told_before_anything_is_scanned(clips: Path) -> None:
    clips.chmod(0o555)
    try:
        ended = scan(clips / "face.mp4", "--model", "never loaded", "-o", clips / "results.csv")
    finally:
        clips.chmod(0o755)
    assert ended.exit_code == 1
    assert "-o" in ended.stderr


def test_names_that_look_like_options_follow_two_dashes(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clips)
    ended = scan("--", "-x.mp4")
    assert ended.exit_code == 1
    assert "-x.mp4: no such file" in ended.stderr


def test_whole_frames_of_each_person_are_saved(clips: Path, model: Path, tmp_path: Path) -> None:
    frames = tmp_path / "new" / "frames"
    ended = scan(clips / "face.mp4", "--model", model, "--frames", 4, "--frames-dir", frames)
    assert ended.exit_code == 0
    assert f"frames: in {frames}" in ended.stderr
    saved = sorted(frames.iterdir())
    assert len(saved) == 3
    assert all(re.fullmatch(r"face\.person-1-at-\d{3}\.\d{3}s\.jpg", path.name) for path in saved)
    with Image.open(saved[0]) as picture:
        assert picture.size == (640, 360)


@pytest.mark.slow
def test_frames_are_saved_for_rows_of_day_one_too_and_replace_no_other_picture(
    clips: Path, model: Path, tmp_path: Path
) -> None:
    frames, command = tmp_path / "frames", [clips, "--exclude", "b*", "--model", model, "--frames", 3, "-o", "day.csv"]
    assert scan(*command).exit_code == 0
    assert scan(*command, "--frames-dir", frames).exit_code == 0
    mine = sorted(frames.iterdir())
    assert mine
    mine[0].write_bytes(b"mine")
    alone = [clips / "face.mp4", "--model", model, "--frames", 3, "--no-timeline", "--frames-dir", frames]
    ended = scan(*alone)
    assert ended.exit_code == 1
    assert "FAKE" in ended.stdout
    assert f"{mine[0]}: exists and holds something else" in ended.stderr
    assert mine[0].read_bytes() == b"mine"
    assert scan(*alone, "--force").exit_code == 0
    assert mine[0].read_bytes() != b"mine"


@pytest.mark.skipif(os.name != "posix", reason="elsewhere the current folder can't be removed")
def test_a_removed_current_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    ended = scan("clip.mp4")
    assert ended.exit_code == 1
    assert ended.stderr == "error: the current folder was removed. Go to another one with cd.\n"


@pytest.mark.slow
def test_annotate_draws_over_one_video(clips: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    ended = scan(clips / "face.mp4", "--model", model, "--frames", 4, "--annotate", out, "--json")
    assert ended.exit_code == 0
    assert json.loads(ended.stdout)["verdict"] == "fake"
    assert f"annotated clip: {out}" in ended.stderr
    assert examine(out).info.frame_count == 6
    for wrong, told in (
        ([clips, "--annotate", out], "single file"),
        ([clips / "face.mp4", "--annotate", clips / "face.mp4", "--force"], "can't be one file"),
        ([clips / "face.mp4", "--annotate", tmp_path / "out.gif"], "MP4 or MOV"),
        ([clips / "face.mp4", "--annotate", tmp_path / "new.mp4", "-o", tmp_path / "new.mp4"], "one file"),
    ):
        ended = scan(*wrong, "--model", model)
        assert ended.exit_code == 2
        assert told in ended.stderr


def test_annotate_replaces_no_other_file(clips: Path, model: Path) -> None:
    before = (clips / "empty.mp4").read_bytes()
    ended = scan(clips / "face.mp4", "--model", model, "--annotate", clips / "empty.mp4")
    assert ended.exit_code == 1
    assert "--force" in ended.stderr
    assert not ended.stdout  # it is told before the scan
    assert (clips / "empty.mp4").read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_report_that_cannot_be_written_costs_neither_verdict_nor_timeline(clips: Path, model: Path) -> None:
    ended = scan(clips / "face.mp4", "--model", model, "--frames", 3, "--report", "/dev/full")
    assert ended.exit_code == 1
    assert "FAKE" in ended.stdout
    assert ended.stderr.splitlines()[-1].startswith("error: /dev/full: can't be written")
    assert len(table(Path("face.timeline.csv"))) == 3


def test_one_file_named_three_ways_is_one_row(
    clips: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("clips/empty.mp4", "./clips/empty.mp4", clips / "empty.mp4", "--model", model, "--frames", 2)
    ended = scan(*command, "-o", "results.csv")
    assert ended.exit_code == 0
    assert [row["path"] for row in table(tmp_path / "results.csv")] == ["clips/empty.mp4"]
    assert (
        "further names of files that are scanned: 2, such as ./clips/empty.mp4, which is clips/empty.mp4"
        in ended.stderr
    )
