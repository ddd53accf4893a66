from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from tests.clips import barcode_frames, write_clip
from torchfakes_cli.video.convert import square_size
from torchfakes_cli.video.probing import examine

SMALL = (192, 108)


def test_a_clip_is_described(barcode_clip: Path) -> None:
    info = examine(barcode_clip).info
    assert info.path == str(barcode_clip)
    assert info.codec == "h264"
    assert "mp4" in info.container
    assert (info.width, info.height, info.rotation) == (320, 180, 0)
    assert info.fps == 30
    assert info.frame_count == 60
    assert info.duration_s == pytest.approx(2.0)
    assert info.warnings == ()


def test_rates_are_exact(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    path = write_clip(tmp_path / "ntsc.mp4", barcode_frames(30, SMALL), rate)
    assert examine(path).info.fps == rate
    assert examine(path).info.duration_s == pytest.approx(30 * 1001 / 30000, abs=0.001)


def test_variable_rate_is_measured(tmp_path: Path) -> None:
    times = [*(n / 10 for n in range(20)), *(2 + n / 50 for n in range(20))]
    info = examine(write_clip(tmp_path / "variable.mkv", barcode_frames(40, SMALL), 50, times_s=times)).info
    assert info.fps is not None
    assert float(info.fps) == pytest.approx(39 / times[-1], rel=0.02)


def test_a_duration_that_lies_is_counted_again(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "lies.mp4", barcode_frames(30, SMALL))
    data = bytearray(path.read_bytes())
    for box, version_0_duration in ((b"mvhd", 4 + 12), (b"mdhd", 4 + 12)):
        place = data.index(box) + 4 + version_0_duration
        data[place : place + 4] = (0x7000_0000).to_bytes(4, "big")
    path.write_bytes(data)
    info = examine(path).info
    assert info.duration_s == pytest.approx(1.0, abs=0.05)
    assert info.frame_count == 30
    assert info.warnings == ()


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_warned_of(tmp_path: Path, transfer: int, name: str) -> None:
    path = write_clip(tmp_path / "hdr.mp4", barcode_frames(3, SMALL), transfer=transfer, pixel_format="yuv420p10le")
    assert any(name in warning and "tone-mapped" in warning for warning in examine(path).info.warnings)


def test_several_streams_give_a_warning(tmp_path: Path) -> None:
    import av

    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as output:
        streams = [output.add_stream("libx264", rate=30, options={"preset": "ultrafast"}) for _ in range(2)]
        for stream, size in zip(streams, ((64, 64), SMALL), strict=True):
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
        streams[0].disposition = 0
        streams[1].disposition = av.stream.Disposition.default
        for stream, size in zip(streams, ((64, 64), SMALL), strict=True):
            for picture in barcode_frames(5, size):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")))
            output.mux(stream.encode())
    info = examine(path).info
    assert (info.width, info.height) == SMALL
    assert info.warnings == ("2 video streams: only the main one is scanned",)


def test_long_still_gives_a_warning(tmp_path: Path) -> None:
    """One flipped bit in a timestamp can turn seconds into days."""
    times = [0.0, 0.1, 0.2, 83_000.0, 83_000.1]
    path = write_clip(tmp_path / "gap.mkv", barcode_frames(5, SMALL), times_s=times)
    assert [text for text in examine(path).info.warnings if "one picture stays for 83000 of its 83000 s" in text]


@pytest.mark.parametrize(
    ("stored", "aspect", "square"),
    [
        ((720, 576), Fraction(16, 15), (768, 576)),
        ((720, 480), Fraction(8, 9), (720, 540)),
        ((640, 360), None, (640, 360)),
        ((640, 360), Fraction(1), (640, 360)),
        ((640, 360), Fraction(1, 250), (640, 360)),
        ((7680, 4320), Fraction(2), (7680, 4320)),
    ],
)
def test_square_size(stored: tuple[int, int], aspect: Fraction | None, square: tuple[int, int]) -> None:
    assert square_size(*stored, aspect) == square
