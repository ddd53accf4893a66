"""Still pictures as videos of one frame: orientation, limits, damage."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps, features

from tests.portraits import portrait
from torchfakes_cli.errors import DecodeError, MediaError, UnsupportedMediaError
from torchfakes_cli.records import Frame
from torchfakes_cli.video.convert import Orientation
from torchfakes_cli.video.isolation.client import IsolatedDecoder
from torchfakes_cli.video.options import SamplingConfig
from torchfakes_cli.video.reader import VideoReader


def wide() -> Image.Image:
    """A picture that looks different whichever way it is turned."""
    return Image.fromarray(np.ascontiguousarray(portrait()[:300]))


def only_frame(path: Path) -> Frame:
    with VideoReader(path) as video:
        assert video.info.picture
        (frame,) = video.frames(SamplingConfig())
        assert (video.info.width, video.info.height) == frame.size
    return frame


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo{suffix}"
    wide().save(path, exif=exif.tobytes(), quality=95)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    frame = only_frame(path)
    assert frame.pixels.shape == upright.shape
    assert np.abs(frame.pixels.astype(int) - upright).mean() < 3


@pytest.mark.parametrize(("mode", "suffix"), [("L", ".jpg"), ("CMYK", ".jpg"), ("RGBA", ".png"), ("P", ".png")])
def test_every_usual_kind_of_pixel_becomes_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    wide().convert(mode).save(path)
    wanted = np.asarray(wide().convert(mode).convert("RGB")).astype(int)
    assert np.abs(only_frame(path).pixels - wanted).mean() < 5


def test_a_picture_has_one_frame_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    wide().save(path)
    path.write_bytes(path.read_bytes() * 2)  # as cameras append a second one
    with IsolatedDecoder() as decoder, decoder.open(path) as video:
        info = video.info
        assert (info.frame_count, info.fps, info.duration_s, info.picture) == (1, None, None, True)
        (frame,) = video.frames(SamplingConfig(frames=5, frames_fixed=True))
        (again,) = video.frames_at([0.0])
    assert (frame.time_s, frame.damaged) == (0.0, False)
    np.testing.assert_array_equal(frame.pixels, again.pixels)


def test_truncated_picture_is_damaged_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    wide().save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert only_frame(path).damaged
    for suffix in (".png", ".webp"):
        whole = tmp_path / f"whole{suffix}"
        wide().save(whole)
        whole.write_bytes(whole.read_bytes()[:2000])
        with pytest.raises(MediaError), VideoReader(whole) as video:
            list(video.frames(SamplingConfig()))


def test_a_tiny_file_of_many_pixels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(cv2.imencode(".png", np.zeros((16, 16), np.uint8))[1].tobytes())
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 40000, 40000)
    path.write_bytes(data)
    with pytest.raises((UnsupportedMediaError, DecodeError)):
        VideoReader(path)


def test_name_with_a_pattern_opens_no_other_file(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (64, 64), (255, 0, 0)).save(tmp_path / f"seq_{number:03}.png")
    path = tmp_path / "seq_%03d.png"
    Image.new("RGB", (64, 64), (0, 0, 255)).save(path)
    assert only_frame(path).pixels[0, 0].tolist() == [0, 0, 255]


def test_a_picture_named_like_a_video_is_told(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    wide().save(path, format="JPEG")
    with pytest.raises(UnsupportedMediaError, match=r"a JPEG picture with a video's name\. Rename it to \.jpg\."):
        VideoReader(path)


def test_odd_metadata_leaves_a_picture_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    wide().save(path, exif=exif.tobytes())
    data = path.read_bytes()
    start = data.index(b"Exif\0\0") + 6
    path.write_bytes(data[:start] + b"\xff" * 20 + data[start + 20 :])
    assert only_frame(path).size == (512, 300)


@pytest.mark.parametrize(("orientation", "clockwise"), [(1, 0), (3, 180), (6, 90), (8, 270)])
def test_exif_orientation_of_video_frames(tmp_path: Path, orientation: int, clockwise: int) -> None:
    path = tmp_path / "frame.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    wide().save(path, exif=exif.tobytes())
    with av.open(str(path), format="jpeg_pipe") as container:
        frame = next(container.decode(video=0))
        assert Orientation.of(frame) == Orientation.turned(clockwise) == Orientation.of_picture(path)


@pytest.mark.parametrize(
    ("suffix", "orientation"),
    [(".avif", 1), (".avif", 6), (".heic", 1), (".heic", 6), (".tiff", 1), (".tiff", 6), (".bmp", 1)],
)
def test_pictures_that_pillow_reads_are_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    if suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    elif suffix == ".avif" and not features.check("avif"):
        pytest.skip("Pillow knows AVIF from 11.3 on")
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo{suffix}"
    wide().save(path, exif=exif.tobytes(), quality=95)
    upright = np.asarray(ImageOps.exif_transpose(wide_turned(orientation)).convert("RGB"))
    frame = only_frame(path)
    assert frame.pixels.shape == upright.shape
    assert np.abs(frame.pixels.astype(int) - upright).mean() < 5
    with IsolatedDecoder() as decoder, decoder.open(path) as there:
        assert there.info.codec == suffix[1:]
        assert len(list(there.frames(SamplingConfig()))) == 1


def wide_turned(orientation: int) -> Image.Image:
    picture = wide()
    picture.getexif()[0x0112] = orientation
    return picture


def test_without_pillow_heif_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(
        UnsupportedMediaError, match=r"HEIC pictures need pillow-heif\. Convert it to JPEG, or run: pip"
    ):
        VideoReader(path)
