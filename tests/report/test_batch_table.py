"""What a table promises in every format; what one format has alone is tested beside."""

from __future__ import annotations

import importlib.util
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.results import failure, result
from tests.report.tables import ENDINGS, paths, rows, state_of
from torchfakes_cli.errors import OutputError, UsageError
from torchfakes_cli.records import VideoResult
from torchfakes_cli.report import BatchTable, Stamp, check_batch_target

STAMP = Stamp(1000, 1, "settings")
NAMES = ["a.mp4", "b.mp4", "c.mp4"]
needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="needs pyarrow")
FORMATS = [pytest.param(ending, marks=needs_pyarrow if ending == ".parquet" else ()) for ending in ENDINGS]
NEW_FORMATS = FORMATS[1:]


def stamps(*names: str, stamp: Stamp = STAMP) -> dict[str, Stamp]:
    return dict.fromkeys(names or NAMES, stamp)


def fill(path: Path, *names: str, stamp: Stamp = STAMP) -> None:
    with BatchTable(path, stamps(*names, stamp=stamp)) as table:
        for name in names or NAMES:
            if name not in table.kept:
                table.write(failure(name) if name.startswith("broken") else result(name))


@pytest.fixture(params=NEW_FORMATS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"results{request.param}"


def test_rows_are_those_of_the_csv_with_their_types(path: Path) -> None:
    names = ["a.mp4", "broken.mp4", "two\nlines.mp4", "ünï.mp4"]
    fill(path, *names)
    fill(path.with_name("results.csv"), *names)
    assert rows(path) == rows(path.with_name("results.csv"))
    first, broken, *_ = rows(path)
    assert (first.path, first.fps, first.p_fake, first.width, first.error) == ("a.mp4", 29.97, 0.2227, 1920, None)
    kinds = [str, str, str, float, str, float, int, int, float, int, int, int, int, float, float, str]
    assert [type(value) for value in first[:-1]] == kinds
    assert broken.error == "empty file. Copy it again."
    assert {broken.verdict, broken.p_fake, broken.frames_sampled, broken.width, broken.model} == {None}


@needs_pyarrow
def test_pandas_reads_the_same_from_each_format(tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    for ending in ENDINGS:
        fill(tmp_path / f"results{ending}", "a.mp4", "broken.mp4", "b.mp4")
    expected = pd.read_csv(tmp_path / "results.csv")
    with closing(sqlite3.connect(tmp_path / "results.sqlite")) as database:
        found = {
            "jsonl": pd.read_json(tmp_path / "results.jsonl", lines=True),
            "sqlite": pd.read_sql("SELECT * FROM results", database),
            "parquet": pd.read_parquet(tmp_path / "results.parquet"),
        }
    for frame in found.values():
        pd.testing.assert_frame_equal(frame.replace({None: pd.NA}), expected.replace({None: pd.NA}), check_dtype=False)
        assert frame["p_fake"].dtype == expected["p_fake"].dtype == float


def test_names_are_raw_but_for_what_cannot_be_text(path: Path) -> None:
    undecodable = b"\xff.mp4".decode("utf-8", "surrogateescape")
    names = ["=1+1.mp4", "-x.mp4", undecodable, "\\xff.mp4", 'quo"ted\u2028.mp4']
    fill(path, *names)
    assert paths(path) == ["=1+1.mp4", "-x.mp4", "\\\\xff.mp4", "\\xff.mp4", 'quo"ted\u2028.mp4']
    with BatchTable(path, stamps(*names)) as table:
        assert list(table.kept) == names


def test_what_is_unchanged_is_kept_and_what_is_new_gets_its_place(path: Path) -> None:
    fill(path, "a.mp4", "c.mp4")
    kept = rows(path)
    with BatchTable(path, stamps()) as table:
        assert list(table.kept) == ["a.mp4", "c.mp4"]
        assert paths(path) == ["a.mp4", "c.mp4"]
        table.write(result("b.mp4"))
    assert paths(path) == NAMES
    assert [rows(path)[0], rows(path)[2]] == kept


@pytest.mark.parametrize("change", [{"size": 1001}, {"mtime_ns": 2}, {"settings": "others"}])
def test_a_row_that_depends_on_what_changed_is_dropped(path: Path, change: dict[str, int | str]) -> None:
    fill(path)
    with BatchTable(path, stamps() | {"b.mp4": replace(STAMP, **change)}) as table:
        assert list(table.kept) == ["a.mp4", "c.mp4"]
        assert (table.stale, table.gone, table.retried) == (1, 0, 0)
        assert paths(path) == ["a.mp4", "c.mp4"]
        table.write(replace(result("b.mp4"), p_fake=0.5))
    assert [row.p_fake for row in rows(path)] == [0.2227, 0.5, 0.2227]


def test_rows_of_other_settings_come_back_with_them(path: Path) -> None:
    fill(path)
    before = rows(path)
    with suppress(KeyboardInterrupt), BatchTable(path, stamps(stamp=replace(STAMP, settings="a slip"))) as table:
        assert table.stale == 3
        raise KeyboardInterrupt
    assert rows(path) == []
    fill(path)
    assert rows(path) == before


def test_an_error_is_tried_again_and_its_row_stays_until_then(path: Path) -> None:
    fill(path, "a.mp4", "broken.mp4", "c.mp4")
    with BatchTable(path, stamps("a.mp4", "broken.mp4", "c.mp4")) as table:
        assert (list(table.kept), table.retried) == (["a.mp4", "c.mp4"], 1)
        assert [row.status for row in rows(path)] == ["ok", "error", "ok"]
        table.write(result("broken.mp4"))
    assert [row.status for row in rows(path)] == ["ok", "ok", "ok"]


def test_files_that_are_gone_lose_their_row(path: Path) -> None:
    fill(path)
    with BatchTable(path, stamps("0.mp4", "c.mp4", "d.mp4")) as table:
        assert table.gone == 2
        table.write(result("d.mp4"))
        table.write(result("0.mp4"))
    assert paths(path) == ["0.mp4", "c.mp4", "d.mp4"]


def test_without_its_companion_nothing_is_kept_and_that_is_told(path: Path) -> None:
    fill(path)
    state_of(path).unlink()
    with BatchTable(path, stamps()) as table:
        assert table.forgotten
        assert not table.kept


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


# Each run gets through some files; then the machine stops, and any number of bytes at the end of a file are missing.
RUN = st.tuples(st.integers(0, 4), st.sampled_from(["table", "state"]), st.integers(0, 20_000))


@pytest.mark.slow
@pytest.mark.parametrize("ending", NEW_FORMATS)
@given(runs=st.lists(RUN, max_size=4), names=st.permutations([*NAMES, "=d\n.mp4"]))
@settings(max_examples=30, deadline=None)
def test_any_sequence_of_crashes_gives_the_same_table(
    ending: str, runs: list[tuple[int, str, int]], names: list[str]
) -> None:
    def outcome(name: str) -> VideoResult:
        return failure(name) if name == "b.mp4" else result(name)

    def scan(path: Path, most: int) -> None:
        with suppress(KeyboardInterrupt), BatchTable(path, stamps(*names)) as table:
            for done, name in enumerate(name for name in names if name not in table.kept):
                if done == most:
                    raise KeyboardInterrupt
                table.write(outcome(name))

    with TemporaryDirectory() as folder:
        undisturbed, path = Path(folder, f"undisturbed{ending}"), Path(folder, f"results{ending}")
        scan(undisturbed, len(names))
        for most, victim, missing in runs:
            scan(path, most)
            torn = path if victim == "table" else state_of(path)
            least = 0 if victim == "state" or ending == ".jsonl" else 100
            # What is whole at the end of a line can't be torn elsewhere; the other formats tell by their beginning.
            os.truncate(torn, max(torn.stat().st_size - missing, least))
            if ending == ".parquet" and victim == "table":
                path.unlink()  # it is written whole or not at all
        scan(path, len(names))
        assert rows(path) == rows(undisturbed)
        assert sorted(each.name for each in Path(folder).iterdir()) == sorted(
            [path.name, state_of(path).name, undisturbed.name, state_of(undisturbed).name]
        )


@pytest.mark.parametrize("content", [b"dear diary\n", b"path,status\n1,2\n", b'{"path":"a.mp4","score":1}\n', b"PAR1"])
def test_only_what_is_not_ours_needs_force(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(OutputError, match="--force"):
        check_batch_target(path, NAMES)
    with pytest.raises(OutputError, match="--force"), BatchTable(path, stamps()):
        pass
    assert path.read_bytes() == content
    with BatchTable(path, stamps(), force=True):
        assert rows(path) == []


def test_results_of_other_videos_are_not_replaced_by_a_slip(path: Path) -> None:
    fill(path)
    with pytest.raises(OutputError, match="other videos"):
        check_batch_target(path, ["d.mp4"])
    check_batch_target(path, ["d.mp4", "c.mp4"])
    check_batch_target(path, ["d.mp4"], force=True)


def test_an_empty_file_is_free(path: Path) -> None:
    path.touch()
    fill(path)
    assert paths(path) == NAMES


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_row_that_does_not_fit_is_made_good_by_the_next_run(path: Path) -> None:
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with suppress(OutputError), BatchTable(path, stamps()) as table:
            table.write(result("a.mp4"))
            limit = state_of(path).stat().st_size + 20
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            with pytest.raises(OutputError, match="rows before it are kept"):
                table.write(result("b.mp4"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    with BatchTable(path, stamps()) as table:
        assert list(table.kept) == ["a.mp4"]
        assert paths(path) == ["a.mp4"]
    fill(path)
    assert paths(path) == NAMES


@pytest.mark.parametrize("ending", [".json", ".XLSX", ".feather"])
def test_a_format_that_is_not_written_is_refused(tmp_path: Path, ending: str) -> None:
    with pytest.raises(UsageError, match=r"\.parquet"):
        check_batch_target(tmp_path / f"results{ending}", NAMES)


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


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
@pytest.mark.parametrize("ending", NEW_FORMATS[1:])
def test_a_pipe_takes_lines_only(tmp_path: Path, ending: str) -> None:
    os.mkfifo(tmp_path / f"pipe{ending}")
    with pytest.raises(OutputError, match="pipe"):
        check_batch_target(tmp_path / f"pipe{ending}", NAMES)
