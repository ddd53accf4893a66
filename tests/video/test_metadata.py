"""Provenance facts of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.clips import barcode_frames, write_clip
from torchfakes_cli.errors import UnsupportedMediaError
from torchfakes_cli.facts import CredentialsState, FileFacts
from torchfakes_cli.video.index import read_layout
from torchfakes_cli.video.isolation.client import IsolatedDecoder
from torchfakes_cli.video.metadata import describe_file


def named(facts: FileFacts) -> dict[str, str]:
    return {fact.name: f"{fact.value} {fact.why}" for fact in facts.facts}


def test_facts_of_a_clip(barcode_clip: Path) -> None:
    facts = describe_file(barcode_clip)
    content = barcode_clip.read_bytes()
    assert facts.size == len(content)
    assert facts.sha256 == hashlib.sha256(content).hexdigest()
    told = named(facts)
    assert told["in the stream"].startswith("x264 - core ")
    assert "software encoder" in told["in the stream"]
    assert told["container: encoder"].startswith("Lavf")
    assert told["order of its parts"].startswith("ftyp free mdat moov index (moov) after")
    # Pictures that are shown in another order than decoded start late in the stream; an edit list makes up for it.
    assert told["edit list"].startswith("2.000 s from ")
    assert "h264" in told["stream 0"]


def test_faststart_layout_is_recognized(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "a.mp4", barcode_frames(4), container_options={"movflags": "faststart"}, title="Mein Ä"
    )
    told = named(describe_file(path))
    assert "index (moov) before" in told["order of its parts"]
    assert told["container: title"].strip() == "Mein Ä"


def test_other_containers_tell_what_they_have(tmp_path: Path) -> None:
    told = named(describe_file(write_clip(tmp_path / "a.mkv", barcode_frames(4))))
    assert told["container"].startswith("Matroska")
    assert "order of its parts" not in told
    assert "x264" in told["in the stream"]


def test_exif_facts_of_a_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.update({271: "Makers <b>", 305: "An Editor 3"})
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg", exif=exif)
    told = named(describe_file(tmp_path / "a.jpg"))
    assert told["EXIF: make"].strip() == "Makers <b>"
    assert told["EXIF: software"].strip() == "An Editor 3"
    assert "camera" not in told


def test_facts_from_the_decoding_process(barcode_clip: Path, tmp_path: Path) -> None:
    with IsolatedDecoder() as decoder:
        assert decoder.describe(barcode_clip) == describe_file(barcode_clip)
        (tmp_path / "text.mp4").write_text("no video")
        with pytest.raises(UnsupportedMediaError, match="text, not a video"):
            decoder.describe(tmp_path / "text.mp4")
        assert decoder.describe(barcode_clip).size == barcode_clip.stat().st_size


def test_metadata_of_any_length_is_cut(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", barcode_frames(4), title="<b>" + "x" * 100_000)
    assert len(named(describe_file(path))["container: title"]) < 420


@pytest.fixture(scope="module")
def tmp_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("boxes") / "file"


BOX_KINDS = (b"ftyp", b"moov", b"trak", b"edts", b"elst", b"mvhd", b"mdat", b"free", b"\xff\x00[;")
LENGTHS = st.one_of(st.integers(0, 64), st.integers(0, 2**32 - 1))


@given(st.lists(st.tuples(LENGTHS, st.sampled_from(BOX_KINDS), st.binary(max_size=40)), max_size=8))
def test_boxes_that_lie_about_their_length_end(tmp_file: Path, boxes: list[tuple[int, bytes, bytes]]) -> None:
    tmp_file.write_bytes(b"".join(length.to_bytes(4, "big") + kind + rest for length, kind, rest in boxes))
    layout = read_layout(tmp_file)
    if layout is not None:
        assert layout.boxes
        assert all(len(edits) <= 1024 for edits in layout.edits.values())


def test_boxes_without_end_are_given_up(tmp_file: Path) -> None:
    tmp_file.write_bytes((b"\0\0\0\x08ftyp" + b"\0\0\0\x08free\0\0\0\x08wide") * 5000)
    layout = read_layout(tmp_file)
    assert layout is not None
    assert len(layout.boxes) <= 4096


def test_credentials_without_the_library(barcode_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchfakes_cli.video.metadata.find_spec", lambda name: None)
    assert describe_file(barcode_clip).credentials.state is CredentialsState.NOT_LOOKED
