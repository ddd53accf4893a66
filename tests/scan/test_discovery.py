from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from torchfakes_cli.scan.discovery import find_videos


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(folder: Path, *paths: Path) -> list[str]:
    found = find_videos(paths or [folder])
    return [Path(video).relative_to(folder).as_posix() for video in found.videos]


def test_videos_of_all_folders_in_one_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.mp4", "a.MOV", "c/z.webm", "c/y/x.mkv", "B.avi")
    assert names(tmp_path) == ["B.avi", "a.MOV", "b.mp4", "c/y/x.mkv", "c/z.webm"]


def test_other_files_are_skipped_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "a.mp4.part", "._a.mp4", ".hidden.txt", "notes.txt", ".git/b.mp4", "a.timeline.csv")
    found = find_videos([tmp_path])
    assert names(tmp_path) == ["a.mp4"]
    assert (found.skipped, found.hidden) == (4, 2)


def test_a_hidden_video_is_not_overlooked(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", ".b.mp4", ".Trash/c.mp4")
    assert names(tmp_path) == [".b.mp4", "a.mp4"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"recursive": False}, ["a1.mp4", "b1.mov"]),
        ({"include": ["a*"]}, ["a1.mp4", "day1/a2.mp4"]),
        ({"include": ["day1/*.mkv", "b?.mov"]}, ["b1.mov", "day1/raw/c.mkv"]),
        ({"exclude": ["raw", "*.mov"]}, ["a1.mp4", "day1/a2.mp4"]),
        ({"include": ["*.mp4"], "exclude": ["day1/*"]}, ["a1.mp4"]),
    ],
)
def test_globs_and_folders_narrow_what_is_taken(tmp_path: Path, options: dict[str, Any], expected: list[str]) -> None:
    touch(tmp_path, "a1.mp4", "a.txt", "b1.mov", "day1/a2.mp4", "day1/raw/c.mkv")
    found = find_videos([tmp_path], **options)
    assert [Path(video).relative_to(tmp_path).as_posix() for video in found.videos] == expected


def test_a_named_file_is_taken_whatever_the_globs_say(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    assert find_videos([tmp_path / "a.mp4"], include=["b*"], exclude=["a*"]).videos == (str(tmp_path / "a.mp4"),)


def test_a_named_file_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    touch(tmp_path, "clip.xyz")
    assert names(tmp_path, tmp_path / "clip.xyz", tmp_path / "missing.mp4") == ["clip.xyz", "missing.mp4"]


def test_what_is_named_twice_is_scanned_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    assert names(tmp_path, tmp_path, tmp_path / "a.mp4", tmp_path) == ["a.mp4"]


def test_paths_stay_as_the_user_gave_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "in/a.mp4")
    monkeypatch.chdir(tmp_path)
    assert find_videos(["in"]).videos == (str(Path("in/a.mp4")),)
    assert find_videos(["./in/a.mp4", "in"]).videos == ("./in/a.mp4",)


def test_one_file_by_several_names_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "d/a.mp4", "d/b.mp4")
    try:
        (tmp_path / "d" / "link.mp4").symlink_to("a.mp4")
    except OSError:
        pytest.skip("this system lets us make no links")
    monkeypatch.chdir(tmp_path)
    found = find_videos(["d", "./d/a.mp4", tmp_path / "d" / "b.mp4", "d/missing.mp4", "d/missing.mp4"])
    first, second = str(Path("d/a.mp4")), str(Path("d/b.mp4"))
    assert found.videos == (first, second, "d/missing.mp4")
    assert found.duplicates == {
        str(Path("d/link.mp4")): first,
        "./d/a.mp4": first,
        str(tmp_path / "d" / "b.mp4"): second,
    }


@pytest.mark.parametrize(
    "suffix", ["3gpp", "3g2", "qt", "lrv", "insv", "mp4v", "MOD", "TOD", "dv", "m2v", "mxf", "m2ts"]
)
def test_what_is_read_when_it_is_named_is_taken_in_folders(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"clip.{suffix}")
    assert names(tmp_path) == [f"clip.{suffix}"]


def test_names_of_skipped_files_are_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a.mp4", "notes.txt")
    with caplog.at_level("INFO", "torchfakes_cli"):
        find_videos([tmp_path])
    assert "notes.txt" in caplog.text
    assert "a.mp4" not in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="needs a working folder that can be removed")
def test_a_path_that_cannot_be_resolved_ends_no_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "in/a.mp4")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert find_videos(["clip.mp4", ".", tmp_path / "in"]).videos == ("clip.mp4", str(tmp_path / "in" / "a.mp4"))


def test_links_that_loop_end(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.mp4")
    try:
        (tmp_path / "real" / "again").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "self").symlink_to(tmp_path / "self")
    except OSError:
        pytest.skip("this system lets us make no links")
    touch(tmp_path, "b.mp4")
    assert names(tmp_path) == ["b.mp4", "real/a.mp4"]
    assert names(tmp_path, tmp_path / "real") == ["real/a.mp4"]
    assert names(tmp_path, tmp_path / "real" / "again") == ["real/again/b.mp4", "real/again/real/a.mp4"]


def test_a_link_to_another_folder_is_followed(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.mp4", "in/b.mp4")
    try:
        (tmp_path / "in" / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    except OSError:
        pytest.skip("this system lets us make no links")
    assert names(tmp_path, tmp_path / "in") == ["in/b.mp4", "in/more/a.mp4"]


@pytest.mark.skipif(os.name != "posix", reason="needs names that are no UTF-8")
def test_names_that_are_no_text_are_found(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    try:
        touch(tmp_path, name)
    except OSError:
        pytest.skip("this file system wants UTF-8")
    assert names(tmp_path) == [name]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="an administrator may read everything")
def test_a_folder_that_may_not_be_read_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "closed/b.mp4")
    (tmp_path / "closed").chmod(0)
    try:
        found = find_videos([tmp_path])
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert [Path(folder).name for folder, _ in found.unreadable] == ["closed"]
    assert len(found.videos) == 1


def test_pictures_are_taken_like_videos(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "a.jpg", "b.JPG", "c.png", "d/e.jpg")
    assert names(tmp_path) == ["a.jpg", "a.mp4", "b.JPG", "c.png", "d/e.jpg"]
    found = find_videos([tmp_path], include=["a*", "d/*.jpg", "x*"])
    assert [Path(path).relative_to(tmp_path).as_posix() for path in found.videos] == ["a.jpg", "a.mp4", "d/e.jpg"]
    assert found.unmatched == ("x*",)
