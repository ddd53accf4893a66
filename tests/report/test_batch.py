"""What a table of results promises in every format; what one format has alone is tested beside."""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.results import failure, result
from tests.report.tables import ENDINGS, journal_of, paths, rows
from torchfakes_cli.errors import OutputError, UsageError
from torchfakes_cli.records import VideoResult
from torchfakes_cli.report import BATCH_COLUMNS, BatchTable, Stamp, check_batch_target

STAMP = Stamp(1000, 1, "settings")
NAMES = ["a.mp4", "b.mp4", "c.mp4"]
needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="needs pyarrow")
FORMATS = [pytest.param(ending, marks=needs_pyarrow if ending == ".parquet" else ()) for ending in ENDINGS]
LINES = [".csv", ".jsonl"]


def stamps(*names: str, stamp: Stamp = STAMP) -> dict[str, Stamp]:
    return dict.fromkeys(names or NAMES, stamp)


def outcome(name: str) -> VideoResult:
    return failure(name) if name.startswith("broken") else result(name)


def fill(path: Path, *names: str, stamp: Stamp = STAMP, most: int | None = None) -> None:
    """Scans what is missing, up to so many files, after which it is interrupted."""
    with suppress(KeyboardInterrupt), BatchTable(path, stamps(*names, stamp=stamp)) as table:
        for done, name in enumerate(name for name in names or NAMES if name not in table.kept):
            if done == most:
                raise KeyboardInterrupt
            table.write(outcome(name))


def beside(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())


@pytest.fixture(params=FORMATS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"results{request.param}"


def test_rows_have_the_columns_in_order_and_their_types(path: Path) -> None:
    fill(path, "a.mp4", "broken.mp4", "two\nlines.mp4", "ünï.mp4")
    first, broken, *others = rows(path)
    assert ",".join(BATCH_COLUMNS) == (
        "path,status,verdict,p_fake,reason,duration_s,width,height,fps,frames_sampled,faces_scored,faces_blurry,tracks,"
        "peak_time_s,elapsed_s,model,error,sha256,scanned_at,real_below,fake_above,people_flagged,warnings"
    )
    assert first == (
        *("a.mp4", "ok", "inconclusive", 0.2227, "too_few_faces", 12.5, 1920, 1080, 29.97),
        *(2, 1, 1, 1, 0.0, 1.5, "tested", None),
        *("ab" * 32, "2026-11-30T10:05:12Z", 0.45, 0.69, 0, "partial: 2 of 5 frames; HDR"),
    )
    kinds = [str, str, str, float, str, float, int, int, float, int, int, int, int, float, float, str]
    assert [type(value) for value in first[:16]] == kinds
    assert broken.error == "empty file. Copy it again."
    assert {broken.verdict, broken.p_fake, broken.frames_sampled, broken.width, broken.model} == {None}
    assert [row.path for row in others] == ["two\nlines.mp4", "ünï.mp4"]
    assert beside(path) == [path.name, journal_of(path).name]


@needs_pyarrow
def test_pandas_reads_the_same_from_each_format(tmp_path: Path) -> None:
    for ending in ENDINGS:
        fill(tmp_path / f"results{ending}", "a.mp4", "broken.mp4", "b.mp4")
    expected = pd.read_csv(tmp_path / "results.csv")
    with closing(sqlite3.connect(tmp_path / "results.sqlite")) as database:
        found = {
            "jsonl": pd.read_json(tmp_path / "results.jsonl", lines=True),
            "sqlite": pd.read_sql("SELECT * FROM results", database),
            "parquet": pd.read_parquet(tmp_path / "results.parquet"),
        }
    assert str(found["jsonl"]["scanned_at"].dtype).endswith("UTC]")
    found["jsonl"]["scanned_at"] = found["jsonl"]["scanned_at"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    for frame in found.values():
        pd.testing.assert_frame_equal(frame.replace({None: pd.NA}), expected.replace({None: pd.NA}), check_dtype=False)
        assert frame["p_fake"].dtype == expected["p_fake"].dtype == float


def test_odd_names_can_be_read_and_are_known_again(path: Path) -> None:
    undecodable = b"\xff.mp4".decode("utf-8", "surrogateescape")
    names = ["=1+1.mp4", "-x.mp4", undecodable, "two\nlines.mp4", 'quo"ted\u2028, twice.mp4']
    fill(path, *names)
    safe = ["'=1+1.mp4", "'-x.mp4"] if path.suffix == ".csv" else names[:2]
    assert paths(path) == [*safe, "\\xff.mp4", *names[3:]]
    with BatchTable(path, stamps(*names)) as table:
        assert list(table.kept) == names


def test_names_that_would_read_alike_are_told_apart(path: Path) -> None:
    fill(path, b"\xff.mp4".decode("utf-8", "surrogateescape"), "\\xff.mp4")
    assert paths(path) == ["\\\\xff.mp4", "\\xff.mp4"]


def test_what_is_unchanged_is_kept_and_what_is_new_gets_its_place(path: Path) -> None:
    fill(path, "a.mp4", "c.mp4")
    kept = rows(path)
    with BatchTable(path, stamps()) as table:
        assert list(table.kept) == ["a.mp4", "c.mp4"]
        assert table.kept["a.mp4"].verdict == "inconclusive"
        assert paths(path) == ["a.mp4", "c.mp4"]
        table.write(result("b.mp4"))
    assert paths(path) == NAMES
    assert [rows(path)[0], rows(path)[2]] == kept


@pytest.mark.parametrize(
    "change",
    [
        {"size": 1001},
        {"mtime_ns": 2},
        {"settings": "others"},
        {"timeline": "a.timeline.csv"},
        {"page": "a.report.html"},
    ],
)
def test_a_row_that_depends_on_what_changed_is_scanned_again(path: Path, change: dict[str, int | str]) -> None:
    fill(path)
    with BatchTable(path, stamps() | {"b.mp4": replace(STAMP, **change)}) as table:
        assert list(table.kept) == ["a.mp4", "c.mp4"]
        assert (table.stale, table.others, table.retried) == (1, 0, 0)
        assert paths(path) == NAMES  # the earlier row stays until then
        table.write(replace(result("b.mp4"), p_fake=0.5))
    assert [row.p_fake for row in rows(path)] == [0.2227, 0.5, 0.2227]


def test_rows_of_other_settings_stay_until_they_are_replaced(path: Path) -> None:
    fill(path)
    before = rows(path)
    other = stamps(stamp=replace(STAMP, settings="others"))
    with suppress(KeyboardInterrupt), BatchTable(path, other) as table:
        assert table.stale == 3
        table.write(replace(result("b.mp4"), p_fake=0.5))
        raise KeyboardInterrupt
    assert [row.p_fake for row in rows(path)] == [0.2227, 0.5, 0.2227]
    assert rows(path)[0] == before[0]
    with BatchTable(path, other) as table:
        assert list(table.kept) == ["b.mp4"]


def test_a_row_is_kept_without_outputs_that_are_not_wanted_now(path: Path, tmp_path: Path) -> None:
    (tmp_path / "a.timeline.csv").touch()
    fill(path, "a.mp4", stamp=replace(STAMP, timeline=str(tmp_path / "a.timeline.csv")))
    with BatchTable(path, stamps("a.mp4")) as table:
        assert list(table.kept) == ["a.mp4"]


def test_a_row_is_kept_only_with_its_timeline(path: Path, tmp_path: Path) -> None:
    timeline = tmp_path / "a.timeline.csv"
    wanted = stamps("a.mp4", stamp=replace(STAMP, timeline=str(timeline)))
    with BatchTable(path, wanted) as table:
        timeline.touch()
        table.write(result("a.mp4"))
    with BatchTable(path, wanted) as table:
        assert list(table.kept) == ["a.mp4"]
    timeline.unlink()
    with BatchTable(path, wanted) as table:
        assert not table.kept


def test_an_error_is_tried_again_and_its_row_stays_until_then(path: Path) -> None:
    names = ["a.mp4", "broken.mp4", "c.mp4", "broken2.mp4"]
    fill(path, *names)
    with BatchTable(path, stamps(*names)) as table:
        assert (list(table.kept), table.retried) == (["a.mp4", "c.mp4"], 2)
        assert [row.status for row in rows(path)] == ["ok", "error", "ok", "error"]
        table.write(result("broken.mp4"))
        table.write(failure("broken2.mp4"))
    assert [row.status for row in rows(path)] == ["ok", "ok", "ok", "error"]
    assert paths(path) == names


def test_a_table_accumulates(path: Path) -> None:
    fill(path)
    before = rows(path)
    with BatchTable(path, stamps("0.mp4", "c.mp4", "d.mp4")) as table:
        assert (table.others, list(table.kept)) == (2, ["c.mp4"])
        table.write(result("d.mp4"))
        table.write(result("0.mp4"))
    assert paths(path) == ["a.mp4", "b.mp4", "0.mp4", "c.mp4", "d.mp4"]
    assert rows(path)[:2] == before[:2]
    with BatchTable(path, stamps()) as table:
        assert list(table.kept) == NAMES


def test_only_prune_removes_rows_of_files_that_are_gone(path: Path, tmp_path: Path) -> None:
    names = [str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"), "relative.mp4", "s3://bucket/c.mp4"]
    (tmp_path / "b.mp4").touch()
    (tmp_path / "elsewhere.mp4").touch()
    wanted = stamps(*names) | {"relative.mp4": replace(STAMP, file=str(tmp_path / "elsewhere.mp4"))}
    with BatchTable(path, wanted) as table:
        for name in names:
            table.write(result(name))
    with BatchTable(path, {}) as table:
        assert (table.pruned, table.others) == (0, 4)
    with BatchTable(path, {}, prune=True) as table:
        assert (table.pruned, table.others) == (1, 3)
    assert paths(path) == names[1:]


def test_prune_empties_no_table(path: Path) -> None:
    fill(path)
    with pytest.raises(OutputError, match="all of its 3 rows"), BatchTable(path, {}, prune=True):
        pass
    assert paths(path) == NAMES


def test_one_file_by_another_path_is_one_row(path: Path) -> None:
    fill(path, "a.mp4", "b.mp4", stamp=replace(STAMP, file="/day/a.mp4"), most=1)
    here = {"/day/a.mp4": replace(STAMP, file="/day/a.mp4")}
    with BatchTable(path, here) as table:
        assert (list(table.kept), table.others) == (["/day/a.mp4"], 0)
    assert paths(path) == ["/day/a.mp4"]


def test_a_table_saved_with_semicolons_is_told(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    fill(path)
    path.write_text(path.read_text().replace(",", ";"), encoding="utf-8-sig")
    with pytest.raises(OutputError, match="';' between its columns"):
        check_batch_target(path)


def test_a_row_of_another_file_of_the_same_name_is_not_replaced(path: Path, tmp_path: Path) -> None:
    for day in ("1", "2"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "a.mp4").touch()
    fill(path, "a.mp4", stamp=replace(STAMP, file=str(tmp_path / "1" / "a.mp4")))
    other = replace(STAMP, size=7, file=str(tmp_path / "2" / "a.mp4"))
    with (
        pytest.raises(OutputError, match=r"another file called a\.mp4"),
        BatchTable(path, stamps("a.mp4", stamp=other)),
    ):
        pass
    assert len(rows(path)) == 1
    (tmp_path / "1" / "a.mp4").unlink()
    with BatchTable(path, stamps("a.mp4", stamp=other)) as table:
        assert table.stale == 1


def test_without_its_journal_rows_stay_and_are_scanned_again(path: Path) -> None:
    names = ["=a.mp4", *NAMES]
    fill(path, *names)
    before = rows(path)
    journal_of(path).unlink()
    with BatchTable(path, stamps("=a.mp4", "b.mp4")) as table:
        assert (table.kept, table.stale, table.others) == ({}, 2, 2)
    assert sorted(rows(path)) == sorted(before)
    with BatchTable(path, stamps(*names)) as table:
        assert not table.kept
        table.write(result("b.mp4"))
    assert paths(path) == ["'=a.mp4" if path.suffix == ".csv" else "=a.mp4", *NAMES]


def test_a_table_without_the_later_columns_is_gone_on_with(path: Path) -> None:
    fill(path)
    before = rows(path)
    journal_of(path).unlink()
    if path.suffix == ".csv":
        lines = [",".join(line.split(",")[:17]) for line in path.read_text().splitlines()]
        path.write_text("\r\n".join(lines) + "\r\n", encoding="utf-8-sig")  # as a spreadsheet saves it
    elif path.suffix == ".jsonl":
        old = [dict(list(json.loads(line).items())[:17]) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in old))
    elif path.suffix == ".sqlite":
        with closing(sqlite3.connect(path)) as database:
            for column in BATCH_COLUMNS[17:]:
                database.execute(f"ALTER TABLE results DROP COLUMN {column}")
    else:
        frame = pd.read_parquet(path)
        frame[list(BATCH_COLUMNS[:17])].to_parquet(path)
    with BatchTable(path, stamps("d.mp4")) as table:
        assert table.others == 3
    assert [row[:17] for row in rows(path)] == [row[:17] for row in before]
    assert rows(path)[0][17:] == (None,) * 6


def test_a_removed_table_takes_the_rows_of_other_files_with_it(path: Path) -> None:
    fill(path)
    path.unlink()
    with BatchTable(path, stamps("c.mp4", "d.mp4")) as table:
        assert (list(table.kept), table.others) == (["c.mp4"], 0)
    assert paths(path) == ["c.mp4"]


def test_a_lost_table_is_made_again(path: Path) -> None:
    fill(path)
    before = rows(path)
    path.unlink()
    with BatchTable(path, stamps()):
        assert rows(path) == before


@pytest.mark.skipif(os.name != "posix", reason="elsewhere an open file stays where it is")
@pytest.mark.parametrize("moment", ["removed", "replaced"])
def test_what_happens_to_the_file_meanwhile_is_put_right(path: Path, moment: str) -> None:
    with BatchTable(path, stamps()) as table:
        table.write(result("a.mp4"))
        path.unlink()
        if moment == "replaced":
            path.write_bytes(b"")
        table.write(result("b.mp4"))
    assert paths(path) == ["a.mp4", "b.mp4"]


def test_an_interruption_keeps_every_row(path: Path) -> None:
    with suppress(KeyboardInterrupt), BatchTable(path, stamps()) as table:
        table.write(result("c.mp4"))
        table.write(failure("a.mp4"))
        raise KeyboardInterrupt
    assert sorted(paths(path)) == ["a.mp4", "c.mp4"]


def test_force_starts_over(path: Path) -> None:
    fill(path)
    with BatchTable(path, stamps(), force=True) as table:
        assert not table.kept
        assert rows(path) == []
    with BatchTable(path, stamps()) as table:
        assert not table.kept


# Each run gets through some files; then the machine stops, and any number of bytes at the end of a file are missing.
RUN = st.tuples(st.integers(0, 4), st.sampled_from(["table", "journal"]), st.integers(0, 20_000))


@pytest.mark.slow
@pytest.mark.parametrize("ending", FORMATS)
@given(runs=st.lists(RUN, max_size=4), names=st.permutations(["a.mp4", "broken.mp4", "c.mp4", "=d\n.mp4"]))
@settings(max_examples=30, deadline=None)
def test_any_sequence_of_crashes_gives_the_same_table(
    ending: str, runs: list[tuple[int, str, int]], names: list[str]
) -> None:
    with TemporaryDirectory() as folder:
        undisturbed, path = Path(folder, f"undisturbed{ending}"), Path(folder, f"results{ending}")
        fill(undisturbed, *names)
        for most, victim, missing in runs:
            fill(path, *names, most=most)
            torn = path if victim == "table" else journal_of(path)
            if victim == "table" and ending not in LINES:
                path.unlink()  # it is written whole or not at all
            else:
                os.truncate(torn, max(torn.stat().st_size - missing, 0))
        fill(path, *names)
        assert rows(path) == rows(undisturbed)
        pairs = [(each.name, journal_of(each).name) for each in (path, undisturbed)]
        assert beside(path) == sorted(name for pair in pairs for name in pair)


def test_a_damaged_journal_costs_no_row(path: Path) -> None:
    names = [f"{number:03}.mp4" for number in range(50)]
    fill(path, *names)
    before = rows(path)
    content = journal_of(path).read_bytes()
    journal_of(path).write_bytes(content[: len(content) // 2])
    with BatchTable(path, stamps(*names)) as table:
        assert (len(table.kept), table.stale) == (0, 50)
    assert rows(path) == before


KILLED = """
import os, sys
from tests.report.results import result
from torchfakes_cli.report import BatchTable, Stamp
stamps = dict.fromkeys(["a.mp4", "b.mp4", "c.mp4"], Stamp(1000, 1, "settings"))
with BatchTable(sys.argv[1], stamps) as table:
    table.write(result("c.mp4"))
    table.write(result("a.mp4"))
    os._exit(9)
"""


def test_a_killed_run_loses_no_row_and_leaves_no_litter(path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode == 9
    check_batch_target(path)
    with BatchTable(path, stamps()) as table:
        assert list(table.kept) == paths(path) == ["a.mp4", "c.mp4"]
        table.write(result("b.mp4"))
    assert paths(path) == NAMES
    assert beside(path) == [path.name, journal_of(path).name]


@pytest.mark.parametrize("content", [b"dear diary\n", b"a,b\n1,2\n", b'{"path":"a.mp4","score":1}\n', b"PAR1", b"tiny"])
def test_only_what_is_not_ours_needs_force(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(OutputError, match="--force"):
        check_batch_target(path)
    with pytest.raises(OutputError, match="--force"), BatchTable(path, stamps()):
        pass
    assert path.read_bytes() == content
    assert beside(path) == [path.name]
    with BatchTable(path, stamps(), force=True):
        assert rows(path) == []


def test_a_journal_that_is_not_ours_is_kept_too(path: Path) -> None:
    journal_of(path).write_text("dear diary\n" * 10)
    with pytest.raises(OutputError, match=r"\.journal: exists"):
        check_batch_target(path)
    with pytest.raises(OutputError, match="--force"), BatchTable(path, stamps()):
        pass
    assert journal_of(path).read_text().startswith("dear diary\n")


@pytest.mark.parametrize("content", [b"", b"torn"])
def test_a_file_without_rows_is_free(path: Path, content: bytes) -> None:
    torn = {".csv": b"path,stat", ".jsonl": b'{"path":"a', ".sqlite": b"SQLite for", ".parquet": b""}
    path.write_bytes(content and torn[path.suffix])
    fill(path)
    assert paths(path) == NAMES


@pytest.mark.parametrize("place", ["missing/results.csv", ""])
def test_an_impossible_place_is_an_output_error(tmp_path: Path, place: str) -> None:
    with pytest.raises(OutputError):
        check_batch_target(tmp_path / place)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="an administrator may write everywhere")
def test_a_table_that_may_not_be_written_is_an_output_error(path: Path) -> None:
    fill(path)
    path.chmod(0o444)
    with pytest.raises(OutputError, match="Permission denied"):
        check_batch_target(path)


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can grow beyond this size."""
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
@pytest.mark.parametrize("room", [20, 4200])
def test_a_row_that_does_not_fit_is_made_good_by_the_next_run(path: Path, room: int) -> None:
    with suppress(OutputError), BatchTable(path, stamps()) as table:
        table.write(result("a.mp4"))
        with full_disk(journal_of(path).stat().st_size + room), pytest.raises(OutputError, match="rows before it"):
            deque(map(table.write, map(result, ["b.mp4", *NAMES * 50])), maxlen=0)
    with BatchTable(path, stamps()) as table:
        assert "a.mp4" in table.kept
        assert paths(path) == list(table.kept)
    fill(path)
    assert paths(path) == NAMES


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_lines_go_to_a_device_and_a_full_one_is_an_output_error(tmp_path: Path) -> None:
    fill(Path(os.devnull))
    assert not journal_of(Path(os.devnull)).exists()
    for ending in LINES:
        link = tmp_path / f"results{ending}"
        link.symlink_to("/dev/full")
        with pytest.raises(OutputError, match="No space left"), BatchTable(link, stamps()) as table:
            table.write(result("a.mp4"))


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
@pytest.mark.parametrize("ending", FORMATS[2:])
def test_a_pipe_takes_lines_only(tmp_path: Path, ending: str) -> None:
    os.mkfifo(tmp_path / f"pipe{ending}")
    with pytest.raises(OutputError, match="pipe"):
        check_batch_target(tmp_path / f"pipe{ending}")


@pytest.mark.parametrize("ending", [".json", ".XLSX", ".feather"])
def test_a_format_that_is_not_written_is_refused(tmp_path: Path, ending: str) -> None:
    with pytest.raises(UsageError, match=r"\.parquet"):
        check_batch_target(tmp_path / f"results{ending}")


@pytest.mark.parametrize(
    ("ending", "beginning"),
    [
        (".JSONL", b"{"),
        (".ndjson", b"{"),
        (".db", b"SQLite"),
        (".sqlite3", b"SQLite"),
        (".txt", b"path,"),
        ("", b"path,"),
    ],
)
def test_the_ending_chooses_the_format(tmp_path: Path, ending: str, beginning: bytes) -> None:
    path = tmp_path / f"results{ending}"
    fill(path)
    assert path.read_bytes().startswith(beginning)


HOLD = """
import sys, time
from torchfakes_cli.report import BatchTable
with BatchTable(sys.argv[1], {}):
    print("open", flush=True)
    time.sleep(60)
"""


def test_two_runs_cannot_share_an_output_and_a_dead_one_blocks_nobody(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(OutputError, match="another scan"):
            check_batch_target(path)
        with pytest.raises(OutputError, match="another scan"), BatchTable(path, stamps(), force=True):
            pass
        other.kill()
        other.wait()
    fill(path)
    assert paths(path) == NAMES


def test_a_link_stays_one_and_shares_the_lock(path: Path, tmp_path: Path) -> None:
    link = tmp_path / f"link{path.suffix}"
    try:
        link.symlink_to(path)
    except OSError:
        pytest.skip("this system lets us make no links")
    with BatchTable(link, stamps()), pytest.raises(OutputError, match="another scan"):
        check_batch_target(path)
    fill(link)
    assert link.is_symlink()
    assert paths(path) == NAMES


def test_checking_leaves_nothing_behind(path: Path, tmp_path: Path) -> None:
    check_batch_target(path)
    assert list(tmp_path.iterdir()) == []
