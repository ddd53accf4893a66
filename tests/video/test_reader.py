from __future__ import annotations

import os
import shutil
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.clips import barcode_frames, burn_barcode, cut_file, damage_packets, packet_spans, read_barcode, write_clip
from torchfakes_cli.errors import DecodeError, UsageError
from torchfakes_cli.records import Frame
from torchfakes_cli.video.decode import threads_for
from torchfakes_cli.video.options import SamplingConfig
from torchfakes_cli.video.reader import VideoReader

EVERY_FRAME = SamplingConfig(fps=Fraction(1000))
SMALL = (192, 108)


def read(path: Path, sampling: SamplingConfig = EVERY_FRAME, threads: int | None = None) -> list[Frame]:
    with VideoReader(path, threads=threads) as video:
        return list(video.frames(sampling))


def open_files() -> list[str]:
    """Returns the paths that this process holds open, on Linux."""
    folder = Path("/proc/self/fd")
    paths = []
    for entry in folder.iterdir() if folder.exists() else ():
        try:
            paths.append(str(entry.readlink()))
        except OSError:
            continue
    return paths


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("h264.mp4", "libx264", {"bf": "3", "g": "12", "preset": "veryfast"}),
        ("open_gop.mkv", "libx264", {"preset": "veryfast", "x264-params": "open-gop=1:keyint=12:bframes=3"}),
        ("h264.mov", "libx264", {"g": "12"}),
        ("h264.ts", "libx264", {"bf": "2", "g": "12", "preset": "veryfast"}),
        ("h264.flv", "libx264", {"bf": "2", "g": "12", "preset": "veryfast"}),
        ("reordered.avi", "libx264", {"bf": "3", "g": "12", "preset": "veryfast"}),
        ("elementary.h264", "libx264", {"bf": "2", "g": "12", "preset": "veryfast"}),
        ("hevc.mp4", "libx265", {"x265-params": "log-level=none:keyint=12:bframes=3"}),
        ("vp8.webm", "libvpx", {"g": "12"}),
        ("vp9.webm", "libvpx-vp9", {"g": "12"}),
        ("av1.mp4", "libsvtav1", {"g": "12"}),
        ("mpeg2.mpg", "mpeg2video", {"bf": "2", "g": "12"}),
        ("mpeg4.avi", "mpeg4", {"bf": "2", "g": "12"}),
        ("refresh.mp4", "libx264", {"preset": "veryfast", "x264-params": "intra-refresh=1:keyint=12:bframes=0"}),
        ("one_key.mp4", "libx264", {"bf": "3", "g": "1000", "preset": "veryfast"}),
    ],
)
def test_frames_and_times_match_in_every_format(tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    if codec == "libsvtav1":
        # It writes to the process's standard error unless told before it starts.
        os.environ.setdefault("SVT_LOG", "1")
    path = write_clip(tmp_path / name, barcode_frames(48, SMALL), Fraction(25), codec, options)
    everything = read(path)
    assert [read_barcode(frame.pixels) for frame in everything] == list(range(48))
    assert [frame.index for frame in everything] == list(range(48))
    assert [frame.time_s for frame in everything] == pytest.approx([number / 25 for number in range(48)], abs=0.002)
    # What is decoded alone must not depend on what is left out before it, nor on how many decoders work at it.
    for threads in (1, 3):
        some = read(path, SamplingConfig(frames=5, frames_fixed=True, start_s=0.5), threads)
        assert len(some) == 5
        for frame in some:
            assert frame.index is not None
            np.testing.assert_array_equal(frame.pixels, everything[frame.index].pixels)


def test_nearby_key_frames_are_preferred(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", barcode_frames(150, (64, 48)), options={"g": "8", "bf": "2"})
    for threads in (1, 3):
        keys = read(path, SamplingConfig(fps=Fraction(1)), threads)
        assert [read_barcode(frame.pixels) for frame in keys] == [16, 48, 72, 104, 136]
        exact = read(path, SamplingConfig(fps=Fraction(1), key_frames=False), threads)
        assert [read_barcode(frame.pixels) for frame in exact] == [15, 45, 75, 105, 135]


def test_times_follow_a_variable_rate(tmp_path: Path) -> None:
    times = [*(n / 25 for n in range(25)), *(1 + n / 5 for n in range(10)), *(3 + n / 100 for n in range(20))]
    for name in ("variable.mp4", "variable.mkv"):
        path = write_clip(tmp_path / name, barcode_frames(55, SMALL), 25, options={"g": "10"}, times_s=times)
        frames = read(path)
        assert [read_barcode(frame.pixels) for frame in frames] == list(range(55))
        assert [frame.time_s for frame in frames] == pytest.approx(times, abs=0.002)


@pytest.mark.parametrize("name", ["late.ts", "late.mkv"])
def test_time_starts_at_zero(tmp_path: Path, name: str) -> None:
    late = [3600 + number / 25 for number in range(30)]
    path = write_clip(tmp_path / name, barcode_frames(30, SMALL), 25, times_s=late)
    with VideoReader(path) as video:
        times = [frame.time_s for frame in video.frames(EVERY_FRAME)]
        assert video.info.duration_s == pytest.approx(1.2, abs=0.05)
    assert times == pytest.approx([number / 25 for number in range(30)], abs=0.002)


def test_joined_recordings_follow_each_other(tmp_path: Path) -> None:
    first = write_clip(tmp_path / "a.ts", barcode_frames(20, SMALL), 25, times_s=[90 + n / 25 for n in range(20)])
    second = write_clip(tmp_path / "b.ts", barcode_frames(20, SMALL, first=20), 25)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    frames = read(joined)
    assert [read_barcode(frame.pixels) for frame in frames] == list(range(40))
    assert [frame.time_s for frame in frames] == pytest.approx([number / 25 for number in range(40)], abs=0.05)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_pictures_are_turned_upright(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    upright = list(barcode_frames(3, (320, 192)))
    stored = [np.rot90(picture[:, ::-1] if mirrored else picture, rotation // 90) for picture in upright]
    path = write_clip(tmp_path / "turned.mp4", stored, rotation=rotation, mirrored=mirrored)
    with VideoReader(path) as video:
        frames = list(video.frames(EVERY_FRAME))
        assert (video.info.width, video.info.height) == (320, 192)
        assert video.info.rotation == rotation
    assert [frame.size for frame in frames] == [(320, 192)] * 3
    assert [read_barcode(frame.pixels) for frame in frames] == [0, 1, 2]
    # A region in color tells a mirrored picture from a turned one.
    difference = frames[0].pixels.astype(int) - upright[0].astype(int)
    assert np.abs(difference).mean() < 12


@pytest.mark.parametrize(("aspect", "size"), [(Fraction(2), (384, 108)), (Fraction(1, 2), (192, 216))])
def test_pixels_become_square(tmp_path: Path, aspect: Fraction, size: tuple[int, int]) -> None:
    path = write_clip(tmp_path / "squeezed.mp4", barcode_frames(3, SMALL), aspect=aspect)
    with VideoReader(path) as video:
        frames = list(video.frames(EVERY_FRAME))
        assert (video.info.width, video.info.height) == size
    assert {frame.size for frame in frames} == {size}
    assert [read_barcode(frame.pixels) for frame in frames] == [0, 1, 2]


def test_an_absurd_pixel_shape_is_ignored(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "absurd.mp4", barcode_frames(2, SMALL), aspect=Fraction(1, 250))
    assert read(path)[0].size == SMALL


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le", "yuv444p", "yuvj420p"])
def test_colors_by_bit_depth_and_range(tmp_path: Path, pixel_format: str) -> None:
    colors = [(220, 30, 40), (30, 200, 60), (40, 50, 230), (250, 250, 250), (5, 5, 5), (128, 128, 128)]
    picture = np.repeat(np.array(colors, dtype=np.uint8)[None], 64, axis=0).repeat(32, axis=1)
    path = write_clip(tmp_path / "colors.mp4", [picture] * 2, pixel_format=pixel_format, options={"crf": "8"})
    pixels = read(path)[0].pixels
    for place, color in enumerate(colors):
        assert pixels[32, 32 * place + 16].tolist() == pytest.approx(color, abs=6)


def test_reading_is_lazy_and_closes_the_file(tmp_path: Path, barcode_clip: Path) -> None:
    path = tmp_path / "clip.mp4"
    shutil.copyfile(barcode_clip, path)
    with VideoReader(path) as video:
        frames = video.frames(EVERY_FRAME)
        next(frames)
        assert not open_files() or str(path) in open_files()
    assert next(frames, None) is None
    assert str(path) not in open_files()
    path.unlink()


def test_a_reader_can_be_read_twice(barcode_clip: Path) -> None:
    with VideoReader(barcode_clip) as video:
        first = [frame.index for frame in video.frames(SamplingConfig())]
        assert [frame.index for frame in video.frames(SamplingConfig())] == first
        assert video.report.frames_delivered == len(first) == 32


def test_frames_at_gives_the_nearest_frames(barcode_clip: Path) -> None:
    with VideoReader(barcode_clip) as video:
        found = [read_barcode(frame.pixels) for frame in video.frames_at([0.0, 0.34, 0.35, 0.352, 1.01, 99.0])]
    assert found == [0, 10, 10, 11, 30, 59]


def test_span_without_a_frame_is_refused(barcode_clip: Path) -> None:
    with VideoReader(barcode_clip) as video, pytest.raises(UsageError, match=r"2\.00 s"):
        video.frames(SamplingConfig(start_s=10))


def test_intact_clip_has_no_warnings(barcode_clip: Path) -> None:
    with VideoReader(barcode_clip) as video:
        list(video.frames(SamplingConfig()))
        assert video.info.warnings == ()
        assert (video.report.frames_wanted, video.report.packets_bad, video.report.warnings) == (32, 0, ())


def test_damaged_packets_are_counted(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "hurt.mp4", barcode_frames(60, SMALL), options={"g": "1"})
    damage_packets(path, [14, 37])
    with VideoReader(path) as video:
        frames = list(video.frames(EVERY_FRAME))
        report = video.report
    assert {14, 37}.isdisjoint(read_barcode(frame.pixels) for frame in frames)
    assert len(frames) == report.frames_delivered == 58
    assert report.packets_bad == 2
    assert "partial: 58 of 60 frames" in report.warnings
    for frame in frames:
        assert frame.time_s == pytest.approx(read_barcode(frame.pixels) / 30, abs=0.002)


def test_neighbor_replaces_a_lost_sample(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "hurt.mp4", barcode_frames(60, SMALL), options={"g": "10", "bf": "0"})
    with VideoReader(path) as video:
        wanted = [frame.index for frame in video.frames(SamplingConfig(frames=6, frames_fixed=True))]
    lost = wanted[2]
    assert lost is not None
    damage_packets(path, [lost])
    with VideoReader(path) as video:
        got = [frame.index for frame in video.frames(SamplingConfig(frames=6, frames_fixed=True))]
        assert got == [*wanted[:2], lost - 1, *wanted[3:]]
        assert video.report.warnings == ("damaged packets skipped: 1",)
        # Paired footage must match frame by frame: there nothing stands in.
        at = [frame.index for frame in video.frames_at([place / 30 for place in wanted if place is not None])]
        assert at == [*wanted[:2], *wanted[3:]]


def hurt_hevc(path: Path) -> Path:
    """60 frames of H.265, a key frame each 10; frame 23 is missing, and frames 24 to 29 build upon it."""
    params = "log-level=none:keyint=10:min-keyint=10:scenecut=0:bframes=0"
    write_clip(path, barcode_frames(60, SMALL), codec="libx265", options={"x265-params": params, "preset": "ultrafast"})
    return damage_packets(path, [23])


def test_pictures_that_build_on_damage_are_marked(tmp_path: Path) -> None:
    with VideoReader(hurt_hevc(tmp_path / "hurt.mp4")) as video:
        frames = list(video.frames(EVERY_FRAME))
        warnings = video.report.warnings
    assert [frame.index for frame in frames] == [*range(23), *range(24, 60)]
    assert [frame.index for frame in frames if frame.damaged] == list(range(24, 30))
    assert "damaged pictures among the frames: 6 of 59" in warnings


def test_neighbor_replaces_a_damaged_sample(tmp_path: Path) -> None:
    with VideoReader(hurt_hevc(tmp_path / "hurt.mp4")) as video:
        damaged = SamplingConfig(start_s=17 / 30, end_s=35 / 30, frames=1, frames_fixed=True, key_frames=False)
        (middle,) = video.frames(damaged)
        assert (middle.index, middle.damaged) == (22, False)
        # Between wanted frames that lie close there is none to stand in: a damaged picture is better than none.
        close = list(video.frames(SamplingConfig(start_s=24 / 30, end_s=32 / 30, frames=8, frames_fixed=True)))
        assert [(frame.index, frame.damaged) for frame in close] == [(n, n < 30) for n in range(24, 32)]


def test_damage_is_reported_alike_each_time(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "hurt.mp4", barcode_frames(40, SMALL), options={"g": "40", "bf": "2", "preset": "fast"}
    )
    data = bytearray(path.read_bytes())
    for start, size in packet_spans(path)[5::5]:
        middle = start + size // 2
        data[middle : start + size] = bytes(value ^ 0x55 for value in data[middle : start + size])
    path.write_bytes(data)
    outcomes = []
    for threads in (1, 2, 2, 5):
        with VideoReader(path, threads=threads) as video:
            pixels = [frame.pixels.tobytes() for frame in video.frames(EVERY_FRAME)]
            assert video.report.warnings
            outcomes.append((video.report, pixels))
    assert all(outcome == outcomes[0] for outcome in outcomes)


def test_parallel_decoders_report_damage_alike(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "hurt.mp4", barcode_frames(96, SMALL), options={"g": "8", "bf": "2"})
    damage_packets(path, [41, 42, 70])
    sampling = SamplingConfig(frames=24, frames_fixed=True)
    outcomes = []
    for threads in (1, 2, 4):
        with VideoReader(path, threads=threads) as video:
            frames = [(frame.index, frame.damaged, frame.pixels.tobytes()) for frame in video.frames(sampling)]
            outcomes.append((frames, video.report))
    assert outcomes[0][1].packets_bad
    assert all(outcome == outcomes[0] for outcome in outcomes)


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_decoders_end_with_their_iterator(tmp_path: Path, taken: int) -> None:
    path = write_clip(tmp_path / "clip.mp4", barcode_frames(96, SMALL), options={"g": "8"})
    before = threading.active_count()
    with VideoReader(path, threads=4) as video:
        frames = video.frames(SamplingConfig(frames=24, frames_fixed=True))
        for _ in range(taken):
            next(frames)
        assert (threading.active_count() > before) == bool(taken)
    assert threading.active_count() == before
    assert str(path) not in open_files()


def test_mostly_damaged_footage_raises_at_the_end(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "ruin.mp4", barcode_frames(40, SMALL), options={"g": "1"})
    damage_packets(path, range(8, 40))
    delivered = []
    with VideoReader(path) as video:
        with pytest.raises(DecodeError, match="only 8 of 40 frames"):
            delivered.extend(video.frames(EVERY_FRAME))
        assert video.report.packets_bad == 32
        assert video.report.warnings[0] == "partial: 8 of 40 frames"


@pytest.mark.parametrize(
    ("name", "muxer", "warning"),
    [
        ("cut.mp4", {"movflags": "+faststart"}, "of 60 frames are in the file"),
        ("cut.mkv", {}, "the file breaks off after"),
        ("cut.avi", {}, "the file breaks off after"),
    ],
)
def test_truncated_file_gives_its_first_part(tmp_path: Path, name: str, muxer: dict[str, str], warning: str) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = write_clip(tmp_path / name, barcode_frames(60, SMALL), codec=codec, container_options=muxer)
    cut_file(path, 0.6)
    with VideoReader(path) as video:
        numbers = [read_barcode(frame.pixels) for frame in video.frames(EVERY_FRAME)]
        assert any(text.startswith("partial: ") and warning in text for text in video.info.warnings)
    # The last picture may be a half one, patched up from the one before.
    assert numbers[:-1] == list(range(len(numbers) - 1))
    assert 20 <= len(numbers) <= 50


def test_a_file_of_noise_cannot_be_decoded(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "noise.mp4", barcode_frames(20, SMALL))
    damage_packets(path, range(20))
    with pytest.raises(DecodeError, match="no frame of it can be decoded"):
        VideoReader(path)


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    picture = np.full((720, 1280, 3), 90, dtype=np.uint8)
    path = write_clip(tmp_path / "long.mp4", (burn_barcode(picture, n) for n in range(150)), options={"g": "10"})
    with VideoReader(path) as video:
        frames = video.frames(EVERY_FRAME)
        peaks = [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss for _ in frames]
    assert len(peaks) == 150
    # A hundred more frames of 2.6 MiB each, kept, would be far more; the unit is KiB on Linux and bytes on macOS.
    assert peaks[-1] <= peaks[40] * 1.2


@pytest.mark.parametrize(
    ("size", "cores", "threads"), [((854, 480), 2, 1), ((854, 480), 8, 7), ((854, 480), 1, 1), ((1920, 1080), 2, 2)]
)
def test_small_pictures_leave_a_core_free(size: tuple[int, int], cores: int, threads: int) -> None:
    assert threads_for(size[0] * size[1], cores) == threads
