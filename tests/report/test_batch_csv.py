from __future__ import annotations

import csv
import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.results import failure, result
from torchfakes_cli.errors import OutputError
from torchfakes_cli.records import VideoResult
from torchfakes_cli.report import BatchTable, Stamp, check_batch_target

STAMP = Stamp(1000, 1, "settings")
NAMES = ["a.mp4", "b.mp4", "c.mp4"]


def stamps(*names: str, stamp: Stamp = STAMP) -> dict[str, Stamp]:
    return dict.fromkeys(names or NAMES, stamp)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def paths(path: Path) -> list[str]:
    return [row["path"] for row in rows(path)]


def state_of(path: Path) -> Path:
    return path.with_name(path.name + ".state.jsonl")


def fill(path: Path, *names: str, stamp: Stamp = STAMP) -> None:
    with BatchTable(path, stamps(*names, stamp=stamp)) as table:
        for name in names or NAMES:
            if name not in table.kept:
                table.write(result(name))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


def test_one_row_a_file_with_the_columns_in_order(path: Path) -> None:
    with BatchTable(path, stamps("clip.mp4", "broken.mp4")) as table:
        table.write(result())
        table.write(failure())
    header = path.read_text().splitlines()[0]
    assert header == (
        "path,status,verdict,p_fake,reason,duration_s,width,height,fps,frames_sampled,faces_scored,faces_blurry,tracks,"
        "peak_time_s,elapsed_s,model,error"
    )
    scanned, failed = rows(path)
    assert scanned["verdict"] == "inconclusive"
    assert scanned["reason"] == "too_few_faces"
    assert scanned["fps"] == "29.970"
    assert (scanned["faces_scored"], scanned["faces_blurry"], scanned["tracks"]) == ("1", "1", "1")
    assert failed["status"] == "error"
    assert failed["error"] == "empty file. Copy it again."
    assert not any(failed[name] for name in ("verdict", "p_fake", "frames_sampled", "faces_scored", "width"))


def test_a_row_is_in_the_file_as_soon_as_it_is_written(path: Path) -> None:
    with BatchTable(path, stamps()) as table:
        assert rows(path) == []
        table.write(result("a.mp4"))
        assert paths(path) == ["a.mp4"]


def test_odd_names_survive_and_are_known_again(path: Path) -> None:
    names = ["two\nlines.mp4", 'quo"ted, twice.mp4', b"\xff.mp4".decode("utf-8", "surrogateescape"), "=1+1.mp4"]
    fill(path, *names)
    written = path.read_bytes()
    assert paths(path) == [names[0], names[1], "\\xff.mp4", "'=1+1.mp4"]
    with BatchTable(path, stamps(*names)) as table:
        assert list(table.kept) == names
    assert path.read_bytes() == written


def test_what_is_unchanged_is_kept_and_what_is_new_gets_its_place(path: Path) -> None:
    fill(path, "a.mp4", "c.mp4")
    kept = rows(path)
    with BatchTable(path, stamps()) as table:
        assert list(table.kept) == ["a.mp4", "c.mp4"]
        assert table.kept["a.mp4"].verdict == "inconclusive"
        assert paths(path) == ["a.mp4", "c.mp4"]
        table.write(result("b.mp4"))
        assert paths(path) == ["a.mp4", "c.mp4", "b.mp4"]
    assert paths(path) == NAMES
    assert [rows(path)[0], rows(path)[2]] == kept


@pytest.mark.parametrize(
    "stamp",
    [
        replace(STAMP, size=1001),
        replace(STAMP, mtime_ns=2),
        replace(STAMP, settings="others"),
        replace(STAMP, timeline="a.timeline.csv"),
        replace(STAMP, page="a.report.html"),
    ],
)
def test_a_row_that_depends_on_what_changed_is_dropped(path: Path, stamp: Stamp) -> None:
    fill(path)
    with BatchTable(path, stamps() | {"b.mp4": stamp}) as table:
        assert list(table.kept) == ["a.mp4", "c.mp4"]
        assert (table.stale, table.gone, table.retried) == (1, 0, 0)
        assert paths(path) == ["a.mp4", "c.mp4"]
        table.write(replace(result("b.mp4"), p_fake=0.5))
    assert [row["p_fake"] for row in rows(path)] == ["0.2227", "0.5000", "0.2227"]


def test_rows_of_other_settings_come_back_with_them(path: Path) -> None:
    fill(path)
    before = path.read_bytes()
    with suppress(KeyboardInterrupt), BatchTable(path, stamps(stamp=replace(STAMP, settings="a slip"))) as table:
        assert table.stale == 3
        raise KeyboardInterrupt
    assert rows(path) == []
    with BatchTable(path, stamps()) as table:
        assert len(table.kept) == 3
    assert path.read_bytes() == before


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
    with BatchTable(path, stamps()) as table:
        for outcome in (failure("a.mp4"), result("b.mp4"), failure("c.mp4")):
            table.write(outcome)
    with BatchTable(path, stamps()) as table:
        assert list(table.kept) == ["b.mp4"]
        assert table.retried == 2
        assert paths(path) == NAMES
        table.write(result("c.mp4"))
        assert [row["status"] for row in rows(path)] == ["error", "ok", "ok"]
        table.write(failure("a.mp4"))
    assert [row["status"] for row in rows(path)] == ["error", "ok", "ok"]


def test_files_that_are_gone_lose_their_row(path: Path) -> None:
    fill(path)
    with BatchTable(path, stamps("a.mp4", "d.mp4")) as table:
        assert table.gone == 2
        table.write(result("d.mp4"))
    assert paths(path) == ["a.mp4", "d.mp4"]


def test_without_its_companion_nothing_is_kept_and_that_is_told(path: Path) -> None:
    fill(path)
    state_of(path).unlink()
    with BatchTable(path, stamps()) as table:
        assert table.forgotten
        assert not table.kept


def test_a_lost_table_is_made_again(path: Path) -> None:
    fill(path)
    before = path.read_bytes()
    path.unlink()
    with BatchTable(path, stamps()):
        assert path.read_bytes() == before


def test_what_happens_to_the_file_meanwhile_is_put_right(path: Path) -> None:
    with BatchTable(path, stamps()) as table:
        table.write(result("a.mp4"))
        if os.name == "posix":
            path.unlink()
        table.write(result("b.mp4"))
    assert paths(path) == ["a.mp4", "b.mp4"]


def test_force_starts_over(path: Path) -> None:
    fill(path)
    with BatchTable(path, stamps(), force=True) as table:
        assert not table.kept
        assert rows(path) == []
    with BatchTable(path, stamps()) as table:
        assert not table.kept


def test_a_damaged_line_of_the_companion_costs_its_row_only(path: Path) -> None:
    fill(path)
    lines = state_of(path).read_bytes().splitlines(keepends=True)
    assert json.loads(lines[2])["row"][0] == "b.mp4"
    state_of(path).write_bytes(b"".join([*lines[:2], bytes(len(lines[2]) - 1) + b"\n", lines[3]]))
    with BatchTable(path, stamps()) as table:
        assert list(table.kept) == ["a.mp4", "c.mp4"]


# Each run gets through some files; then the machine stops, and any number of bytes at the end of a file are missing.
RUN = st.tuples(st.integers(0, 4), st.sampled_from(["table", "state"]), st.integers(0, 3000))


@given(st.lists(RUN, max_size=6), st.permutations([*NAMES, "=d\n.mp4"]))
@settings(max_examples=60)
def test_any_sequence_of_crashes_gives_the_same_table(runs: list[tuple[int, str, int]], names: list[str]) -> None:
    def outcome(name: str) -> VideoResult:
        return failure(name) if name == "b.mp4" else result(name)

    def scan(path: Path, most: int) -> None:
        with suppress(KeyboardInterrupt), BatchTable(path, stamps(*names)) as table:
            for done, name in enumerate(name for name in names if name not in table.kept):
                if done == most:
                    raise KeyboardInterrupt
                table.write(outcome(name))

    with TemporaryDirectory() as folder:
        undisturbed, path = Path(folder, "undisturbed.csv"), Path(folder, "results.csv")
        scan(undisturbed, len(names))
        for most, victim, missing in runs:
            scan(path, most)
            torn = path if victim == "table" else state_of(path)
            os.truncate(torn, max(torn.stat().st_size - missing, 0))
        scan(path, len(names))
        assert path.read_bytes() == undisturbed.read_bytes()
        assert sorted(each.name for each in Path(folder).iterdir()) == sorted(
            [path.name, state_of(path).name, undisturbed.name, state_of(undisturbed).name]
        )


def test_only_what_is_not_ours_needs_force(path: Path) -> None:
    path.write_text("dear diary\n")
    with pytest.raises(OutputError, match="--force"), BatchTable(path, stamps()):
        pass
    assert path.read_text() == "dear diary\n"
    with BatchTable(path, stamps(), force=True):
        pass
    assert rows(path) == []


def test_results_of_other_videos_are_not_replaced_by_a_slip(path: Path) -> None:
    fill(path)
    with pytest.raises(OutputError, match="other videos"):
        check_batch_target(path, ["d.mp4"])
    check_batch_target(path, ["d.mp4", "c.mp4"])
    check_batch_target(path, ["d.mp4"], force=True)


def test_a_companion_that_is_not_ours_is_kept_too(path: Path) -> None:
    state_of(path).write_text("dear diary\n")
    with pytest.raises(OutputError, match=r"state\.jsonl"):
        check_batch_target(path, NAMES)
    assert state_of(path).read_text() == "dear diary\n"


@pytest.mark.parametrize("content", [b"", b"path,stat"])
def test_a_file_without_rows_is_free(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    fill(path)
    assert paths(path) == NAMES


@pytest.mark.parametrize("place", ["missing/results.csv", ""])
def test_an_impossible_place_is_an_output_error(tmp_path: Path, place: str) -> None:
    with pytest.raises(OutputError):
        check_batch_target(tmp_path / place, NAMES)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="an administrator may write everywhere")
def test_a_table_that_may_not_be_written_is_an_output_error(path: Path) -> None:
    fill(path)
    path.chmod(0o444)
    with pytest.raises(OutputError, match="Permission denied"):
        check_batch_target(path, NAMES)


def test_a_device_just_gets_the_rows() -> None:
    fill(Path(os.devnull))
    assert not state_of(Path(os.devnull)).exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_output_error() -> None:
    with pytest.raises(OutputError, match="No space left"), BatchTable("/dev/full", stamps()):
        pass


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_row_that_does_not_fit_is_taken_back_and_made_good_by_the_next_run(path: Path) -> None:
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with BatchTable(path, stamps()) as table:
            table.write(result("a.mp4"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (state_of(path).stat().st_size + 20, hard))
            with pytest.raises(OutputError, match="rows before it are kept"):
                table.write(result("b.mp4"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert paths(path) == ["a.mp4"]
    assert path.read_bytes().endswith(b"\n")
    assert state_of(path).read_bytes().endswith(b"\n")
    fill(path)
    assert paths(path) == NAMES
