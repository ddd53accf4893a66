"""Videos by URL, from fsspec's store in memory and from files; what is in a store far away reads the same."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from torchfakes_cli.detector.detector import Detector
from torchfakes_cli.errors import UnreadableFileError
from torchfakes_cli.records import Reason, Status
from torchfakes_cli.scan.batch import scan_folder
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.discovery import find_videos
from torchfakes_cli.scan.remote_files import entries, is_url, local_copy, state_of
from torchfakes_cli.scan.scanner import scan_video
from torchfakes_cli.video.options import SamplingConfig

fsspec = pytest.importorskip("fsspec")

QUICK = ScanConfig(sampling=SamplingConfig(frames=3, frames_fixed=True), jobs=1)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty folder, in a test whose copies lie in ``tmp_path``."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    memory = fsspec.filesystem("memory")
    memory.mkdir("/bucket")
    yield "memory://bucket"
    memory.rm("/bucket", recursive=True)


def put(url: str, content: bytes = b"content") -> None:
    with fsspec.open(url, "wb") as file:
        file.write(content)


@pytest.mark.parametrize("url", ["s3://bucket/clip.mp4", "gs://bucket", "memory://a", "file:///clip.mp4"])
def test_stores_are_told_by_their_scheme(url: str) -> None:
    assert is_url(url)


@pytest.mark.parametrize(
    "path",
    ["ftp://example.org/a", "zip://a.mp4::s3://b", "rtsp://camera", "C:/a.mp4", "a:b.mp4"],
)
def test_other_urls_and_paths_are_no_store(path: str) -> None:
    assert not is_url(path)


def test_folders_are_searched_as_on_a_disk(store: str, tmp_path: Path) -> None:
    names = ["b.mp4", "a/2.MOV", "a/1.mp4", "a.txt", ".hidden.mp4", ".trash/x.mp4", "a/._1.mp4", "raw/r.mp4", "p.jpg"]
    for name in names:
        put(f"{store}/{name}")
        place = tmp_path / "disk" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"content")
    for how in ({}, {"recursive": False}, {"include": ["a/*", "*.jpg"]}, {"exclude": ["raw", "2*"]}):
        here = find_videos([tmp_path / "disk"], **how)  # type: ignore[arg-type]
        there = find_videos([f"{store}/"], **how)  # type: ignore[arg-type]
        wanted = [f"{store}/{Path(path).relative_to(tmp_path / 'disk').as_posix()}" for path in here.videos]
        assert list(there.videos) == wanted
        assert there.videos
        assert not there.unreadable
        assert all(size == 7 and time for size, time in map(there.states.__getitem__, there.videos))


def test_a_file_and_what_is_missing(store: str) -> None:
    put(f"{store}/clip.mp4")
    assert find_videos([f"{store}/clip.mp4"]).videos == (f"{store}/clip.mp4",)
    assert state_of(f"{store}/clip.mp4")[0] == 7
    assert state_of(f"{store}/missing.mp4") == (None, None)
    with pytest.raises(UnreadableFileError, match="no such file"):
        entries(f"{store}/missing")


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"content")
    (tmp_path / "again").symlink_to(tmp_path)
    assert [entry.name for entry in entries(tmp_path.as_uri())] == ["clip.mp4"]


def test_results_bear_the_url_and_no_copy_stays(store: str, clips: Path, detector: Detector, tmp_path: Path) -> None:
    put(f"{store}/a.mp4", (clips / "empty.mp4").read_bytes())
    put(f"{store}/b.mp4", b"not a video at all")
    good, bad = scan_folder(store, QUICK, detector=detector)
    assert (good.path, good.reason, good.frames_sampled) == (f"{store}/a.mp4", Reason.NO_FACE, 3)
    assert (bad.path, bad.status) == (f"{store}/b.mp4", Status.ERROR)
    with pytest.raises(UnreadableFileError, match=f"^{store}/none.mp4: there is no such file"):
        scan_video(f"{store}/none.mp4", QUICK, detector=detector)
    assert list(tmp_path.glob("torchfakes-copy-*")) == []


def test_copies_are_bounded(store: str, tmp_path: Path) -> None:
    put(f"{store}/large.mp4", bytes((1 << 20) + 1))
    with (
        pytest.raises(UnreadableFileError, match=r"larger than 1 MiB.*--max-download-size"),
        local_copy(f"{store}/large.mp4", 1 << 20),
    ):
        pass
    with local_copy(f"{store}/large.mp4", 2 << 20) as copy:
        assert Path(copy.path).stat().st_size == (1 << 20) + 1
        assert Path(copy.path).suffix == ".mp4"
        assert copy.source is None
    assert list(tmp_path.glob("torchfakes-copy-*")) == []


def test_a_name_from_a_store_names_no_file_here(store: str) -> None:
    put(f"{store}/..%2f..%2fetc/passwd.m p4;x")
    (url,) = (f"{store}/..%2f..%2fetc/{entry.name}" for entry in entries(f"{store}/..%2f..%2fetc"))
    with local_copy(url, 99) as copy:
        assert Path(copy.path).name == "clip"
