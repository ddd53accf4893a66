"""Intact files that look damaged or have unusual timing: edit lists, delays, intra refresh, changing sizes."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, features

from tests.clips import barcode_frames, cut_file, read_barcode, write_clip
from tests.portraits import portrait
from torchfakes_cli.video.options import SamplingConfig
from torchfakes_cli.video.probing import examine
from torchfakes_cli.video.reader import VideoReader

SMALL = (192, 108)
EVERY_FRAME = SamplingConfig(fps=Fraction(1000))


def shown(path: Path, sampling: SamplingConfig = EVERY_FRAME) -> list[tuple[float, int]]:
    """Returns times and burnt numbers of the frames; the file must be read without a warning."""
    with VideoReader(path) as video:
        frames = [(round(frame.time_s, 3), read_barcode(frame.pixels)) for frame in video.frames(sampling)]
        assert (*video.info.warnings, *video.report.warnings) == ()
    return frames


def with_sound(clip: Path, path: Path, *, sound_s: float, late_s: float = 0.0) -> Path:
    """Copies a clip's pictures from ``late_s`` on into a file with so many seconds of sound."""
    rate, block = 48_000, 1024
    with av.open(str(clip)) as source, av.open(str(path), "w") as output:
        pictures = source.streams.video[0]
        video = output.add_stream_from_template(pictures)
        audio = output.add_stream("aac", rate=rate)
        audio.codec_context.layout = "mono"
        packets = [packet for packet in source.demux(pictures) if packet.dts is not None]
        for packet in packets:
            shift = round(Fraction(late_s) / packet.time_base)
            packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, video
        for number in range(int(sound_s * rate / block)):
            samples = np.random.default_rng(number).normal(0, 0.1, (1, block)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, number * block, Fraction(1, rate)
            packets += audio.encode(frame)
        packets += audio.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return path


def set_edits(path: Path, edits: list[tuple[float, float] | tuple[float, float, float]]) -> Path:
    """Writes an edit list into an MP4 file whose index comes last: length, start (-1: empty) and rate of parts."""
    data = path.read_bytes()

    def box(kind: bytes, start: int = 0) -> int:
        return data.index(kind, start) - 4

    moov, trak = box(b"moov"), box(b"trak")
    (movie_scale,) = struct.unpack_from(">I", data, box(b"mvhd") + 8 + 12)
    (media_scale,) = struct.unpack_from(">I", data, box(b"mdhd") + 8 + 12)
    rows = [
        struct.pack(
            ">IiI",
            round(length * movie_scale),
            -1 if start < 0 else round(start * media_scale),
            round((rate[0] if rate else 1) * 65536),
        )
        for length, start, *rate in edits
    ]
    body = struct.pack(">II", 0, len(rows)) + b"".join(rows)
    elst = struct.pack(">I4s", 8 + len(body), b"elst") + body
    edts = struct.pack(">I4s", 8 + len(elst), b"edts") + elst
    old, place = 0, box(b"mdia")
    if b"edts" in data[trak:place]:
        place = box(b"edts", trak)
        (old,) = struct.unpack_from(">I", data, place)
    new = bytearray(data[:place] + edts + data[place + old :])
    for parent in (moov, trak):
        (size,) = struct.unpack_from(">I", new, parent)
        struct.pack_into(">I", new, parent, size + len(edts) - old)
    path.write_bytes(new)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds, a key frame each second."""
    return write_clip(tmp_path_factory.mktemp("intact") / "clip.mp4", barcode_frames(90, SMALL), options={"g": "30"})


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts"])
def test_time_zero_is_the_earliest_stream_s(clip: Path, tmp_path: Path, suffix: str) -> None:
    path = with_sound(clip, tmp_path / f"late.{suffix}", sound_s=5, late_s=2)
    assert examine(path).info.duration_s == pytest.approx(5, abs=0.05)
    assert examine(path).info.fps == 30
    frames = shown(path)
    assert [number for _, number in frames] == list(range(90))
    for time_s, number in frames:
        assert time_s == pytest.approx(2 + number / 30, abs=1 / 30)
    span = SamplingConfig(fps=Fraction(1000), start_s=3.02, end_s=4.02)
    assert [time_s for time_s, _ in shown(path, span)] == [time_s for time_s, _ in frames if 3.02 <= time_s < 4.02]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_sound_may_outlast_the_picture(clip: Path, tmp_path: Path, suffix: str) -> None:
    path = with_sound(clip, tmp_path / f"long.{suffix}", sound_s=20)
    assert len(shown(path)) == 90
    if suffix == "mkv":
        assert any("partial" in warning for warning in examine(cut_file(path, 0.1)).info.warnings)


def test_frames_cut_by_an_edit_list_are_not_missing(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "trim.mp4", barcode_frames(90, SMALL), options={"g": "15", "bf": "0"})
    frames = shown(set_edits(path, [(1.0, 1.0)]))
    assert frames == [(pytest.approx(number / 30 - 1, abs=0.001), number) for number in range(30, 60)]


@pytest.mark.parametrize("gop", ["15", "250"])
@pytest.mark.parametrize("b_frames", ["0", "2"])
def test_edit_list_with_reordered_and_repeated_parts(tmp_path: Path, gop: str, b_frames: str) -> None:
    path = write_clip(tmp_path / "parts.mp4", barcode_frames(90, SMALL), options={"g": gop, "bf": b_frames})
    with av.open(str(path), options={"ignore_editlist": "1"}) as container:
        stream = container.streams.video[0]
        media_s = float(
            min(packet.pts for packet in container.demux(stream) if packet.pts is not None) * stream.time_base
        )
    set_edits(path, [(1.0, media_s + 2.0), (0.5, -1), (1.0, media_s), (0.5, media_s + 0.5)])
    wanted = [*range(60, 90), *range(30), *range(15, 30)]
    times = [*np.arange(30) / 30, *(1.5 + np.arange(45) / 30)]
    assert examine(path).info.duration_s == pytest.approx(3.0)
    assert shown(path) == [
        (pytest.approx(time_s, abs=0.002), number) for time_s, number in zip(times, wanted, strict=True)
    ]
    few = shown(path, SamplingConfig(frames=6, frames_fixed=True))
    assert set(few) <= set(shown(path))
    with VideoReader(path) as video:
        assert [read_barcode(frame.pixels) for frame in video.frames_at([0.5, 1.5, 2.9])] == [75, 0, 27]


def test_edit_list_with_rates(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "rates.mp4", barcode_frames(60, SMALL), options={"g": "15", "bf": "0"})
    frames = shown(set_edits(path, [(1.0, 0.0, 2.0)]))
    assert frames == [(pytest.approx(number / 60, abs=0.001), number) for number in range(60)]
    assert examine(path).info.fps == 60
    frames = shown(set_edits(path, [(0.5, 1.0, 0.5), (2.0, 0.1, 0.0), (0.1, 0.0)]))
    slow = [(number / 15, 30 + number) for number in range(8)]
    wanted = [*slow, (0.5, 3), *(((2.5 + number / 30), number) for number in range(3))]
    assert frames == [(pytest.approx(time_s, abs=0.001), number) for time_s, number in wanted]


def test_time_zero_is_that_of_the_edited_sound(clip: Path, tmp_path: Path) -> None:
    path = set_edits(with_sound(clip, tmp_path / "sound.mp4", sound_s=3), [(1.0, -1), (0.5, 2.0), (0.5, 0.0)])
    assert [time_s for time_s, _ in shown(path)][::15] == pytest.approx([1.0, 1.5], abs=0.04)


def test_an_animated_avif_is_read_as_a_video(tmp_path: Path) -> None:
    if not features.check("avif"):
        pytest.skip("Pillow knows AVIF from 11.3 on")
    first, *rest = [Image.fromarray(pixels) for pixels in barcode_frames(6, SMALL)]
    first.save(tmp_path / "moving.avif", save_all=True, append_images=rest, duration=100)
    assert shown(tmp_path / "moving.avif") == [(number / 10, number) for number in range(6)]


def test_intra_refresh_is_no_damage(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "refresh.mp4",
        barcode_frames(120, (320, 180)),
        options={"preset": "fast", "x264-params": "intra-refresh=1:keyint=30:log-level=none"},
    )
    frames = shown(path, SamplingConfig(frames=8, frames_fixed=True))
    assert frames == [(pytest.approx(number / 30, abs=0.001), number) for _, number in frames]


def test_late_decoder_knows_the_encoder_version(tmp_path: Path) -> None:
    """FFmpeg works around a flaw that x264 had before core 151 in 4:4:4. A new stream that claims to be old comes out
    wrong, wherever decoding starts."""
    noise = np.random.default_rng(0)
    still = portrait()[:240, :320].astype(int)
    frames = [
        np.clip(np.roll(still, (n * 3, n * 5), (0, 1)) + noise.integers(-30, 30, still.shape), 0, 255).astype(np.uint8)
        for n in range(40)
    ]
    options = {"g": "10", "bf": "0", "preset": "medium", "x264-params": "cabac=1:8x8dct=1:qp=30:partitions=all"}
    path = write_clip(tmp_path / "old.mp4", frames, pixel_format="yuv444p", options=options)
    path.write_bytes(re.sub(rb"x264 - core \d+", b"x264 - core 148", path.read_bytes()))
    for threads in (1, 2):
        with VideoReader(path, threads=threads) as video:
            list(video.frames(SamplingConfig(start_s=1.0, frames=3, frames_fixed=True)))
            assert any("damaged pictures" in warning for warning in video.report.warnings)


def joined_vp8(path: Path, parts: list[tuple[int, int]]) -> None:
    with av.open(str(path), "w") as output:
        stream, place = None, 0
        for size in parts:
            part = write_clip(
                path.with_name("part.webm"), barcode_frames(10, size), codec="libvpx", options={"g": "99"}
            )
            with av.open(str(part)) as source:
                stream = stream or output.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.stream, packet.pts, packet.time_base = stream, place * 33, Fraction(1, 1000)
                        packet.dts, place = packet.pts, place + 1
                        output.mux(packet)


def joined_h264(path: Path, parts: list[tuple[int, int]]) -> None:
    written = []
    for number, size in enumerate(parts):
        times = [(10 * number + place) / 30 for place in range(10)]
        part = write_clip(path.with_name(f"{number}.ts"), barcode_frames(10, size), times_s=times)
        written.append(part.read_bytes())
    path.write_bytes(b"".join(written))


@pytest.mark.parametrize(("name", "join"), [("call.webm", joined_vp8), ("call.ts", joined_h264)])
def test_changing_picture_size_gives_borders_and_a_warning(
    tmp_path: Path, name: str, join: Callable[[Path, list[tuple[int, int]]], None]
) -> None:
    """A call's recording starts small, grows, and is turned; its key frames say so."""
    path = tmp_path / name
    join(path, [(320, 180), (640, 360), (180, 320)])
    with VideoReader(path) as video:
        frames = list(video.frames(EVERY_FRAME))
        assert (video.info.width, video.info.height) == (640, 360)
        assert any("changes its size" in warning for warning in video.report.warnings)
    assert [frame.size for frame in frames] == [(640, 360)] * 30
    assert read_barcode(frames[12].pixels) == 2
    assert read_barcode(frames[3].pixels[90:270, 160:480]) == 3
    assert read_barcode(frames[25].pixels[20:340, 230:410]) == 5
    assert not frames[3].pixels[:88].any()
    assert not frames[25].pixels[:, :228].any()
