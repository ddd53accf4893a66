"""The clip with what was found drawn over it: every frame at its time, the sound, the boxes where the faces are."""

from __future__ import annotations

import shutil
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.clips import barcode_frames, cut_file, damage_packets, read_barcode, write_clip
from tests.scan.annotated import POLICY, Content, content_of, result_of, row
from tests.torture import write_set
from tests.torture.encoding import Track, remux, tone_bytes
from torchfakes_cli import VideoResult, annotate_video
from torchfakes_cli.errors import MediaError, OutputError, UsageError
from torchfakes_cli.records import Status, VideoInfo
from torchfakes_cli.report.overlay import COLORS
from torchfakes_cli.report.summary import Word

BOX = (100.0, 40.0, 160.0, 110.0)
COUNT = 24
#: Half a tick of the clock that times are written by.
TICK_S = 0.6e-5


def annotated(path: Path, result: VideoResult | None = None, **options: bool) -> tuple[Content, tuple[str, ...]]:
    out = path.with_name("out.mp4")
    notes = annotate_video(path, result or result_of(path, [row(0.0, BOX)]), out, policy=POLICY, **options)
    assert sorted(other.name for other in path.parent.iterdir()) == sorted({"out.mp4", path.name})
    return content_of(out), notes


def numbers(content: Content, size: tuple[int, int] = (320, 180), scale: int = 2) -> list[int]:
    """Those burnt into the pictures, which are drawn enlarged and with the bar of scores under them."""
    width, height = size
    return [read_barcode(frame[: height * scale, : width * scale]) for frame in content.frames]


def near(pixel: NDArray[np.uint8], color: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel.astype(int) - np.array(color)).max() < 50)


def test_frames_times_and_sound_are_those_of_the_source(tmp_path: Path) -> None:
    silent = write_clip(tmp_path / "silent.mp4", barcode_frames(COUNT), fps=Fraction(24000, 1001))
    path = remux(tmp_path / "clip.mp4", [Track(silent.read_bytes()), Track(tone_bytes(".m4a", 1.0, "aac"))])
    silent.unlink()
    content, notes = annotated(path)
    source = content_of(path)
    assert notes == ()
    assert numbers(content) == list(range(COUNT))
    np.testing.assert_allclose(content.times_s, source.times_s, atol=TICK_S)
    assert content.end_s == pytest.approx(source.end_s, abs=1e-3)
    assert content.sound_packets == source.sound_packets
    assert content.sound_s == source.sound_s
    assert content.sound is not None
    assert source.sound is not None
    np.testing.assert_array_equal(content.sound[: len(source.sound)], source.sound)
    head = (tmp_path / "out.mp4").read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")


def test_boxes_are_where_the_faces_are_and_look_as_their_score(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", [np.full((360, 640, 3), 90, np.uint8)] * 30, fps=10)
    timeline = [
        row(0.0, (100, 100, 180, 200)),
        row(1.0, (300, 100, 380, 200)),
        row(2.0, None),
        row(2.5, (300, 100, 380, 200), None, "blurry"),
    ]
    content, _ = annotated(path, result_of(path, timeline))

    def line_at(frame: int, left: int) -> bool:
        return near(content.frames[frame][110, left - 2], COLORS[Word.FAKE])

    assert line_at(0, 100)
    assert not line_at(0, 300)
    assert line_at(5, 200)  # half of the way
    assert line_at(10, 300)
    assert line_at(14, 300)  # stays for a while
    assert not line_at(17, 300)
    # Between samples the corners alone, of an unscored face dashes.
    sampled, between, blurry = (content.frames[frame] for frame in (10, 5, 25))
    assert near(sampled[150, 298], COLORS[Word.FAKE])
    assert not near(between[150, 198], COLORS[Word.FAKE])
    column = [near(blurry[y, 298], COLORS[Word.FAKE]) for y in range(100, 200)]
    assert 20 < sum(column) < 80
    assert sum(a and not b for a, b in pairwise(column)) >= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "times_s"),
    [
        ("rate.mp4", [place / 7 + (0.4 if place > 10 else 0) for place in range(COUNT)]),
        ("rate.mkv", [round(place**1.3 / 30, 3) for place in range(COUNT)]),
        ("late.ts", [1.25 + place / 25 for place in range(COUNT)]),
    ],
)
def test_variable_rates_and_late_starts_keep_their_times(tmp_path: Path, name: str, times_s: list[float]) -> None:
    path = write_clip(tmp_path / name, barcode_frames(COUNT), times_s=times_s, options={"bf": "3", "preset": "medium"})
    content, notes = annotated(path)
    assert notes == ()
    assert numbers(content) == list(range(COUNT))
    np.testing.assert_allclose(content.times_s, np.array(times_s) - times_s[0], atol=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("video_s", "sound_s"), [(2, 0), (0, 1), (Fraction(1, 2), Fraction(1, 4))])
def test_sound_and_pictures_keep_their_distance(
    tmp_path: Path, video_s: Fraction | int, sound_s: Fraction | int
) -> None:
    silent = write_clip(tmp_path / "silent.mp4", barcode_frames(COUNT), fps=25)
    tracks = [Track(silent.read_bytes(), shift_s=video_s), Track(tone_bytes(".m4a", 3.0, "aac"), shift_s=sound_s)]
    silent.unlink()
    for name in ("clip.mp4", "clip.mkv", "clip.ts"):
        folder = tmp_path / name[-3:]
        folder.mkdir()
        path = remux(folder / name, tracks)
        content, _ = annotated(path)
        assert numbers(content) == list(range(COUNT))
        source = content_of(path)
        expected = source.times_s[0] - source.sound_s
        # Matroska counts milliseconds, and what AAC puts in front is heard in MPEG-TS.
        assert content.times_s[0] - content.sound_s == pytest.approx(expected, abs=2e-3)
        assert min(content.times_s[0], content.sound_s) == pytest.approx(0, abs=2e-3)
        assert content.sound_packets
        assert len(content.sound_packets) == pytest.approx(len(source.sound_packets), abs=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "suffix", "container"),
    [("pcm_s16le", ".wav", "avi"), ("mp2", ".mp2", "avi")],
)
def test_other_sound_is_encoded_anew(tmp_path: Path, codec: str, suffix: str, container: str) -> None:
    silent = write_clip(tmp_path / "silent.mkv", barcode_frames(COUNT), fps=12, codec="mpeg4")
    path = remux(
        tmp_path / f"clip.{container}", [Track(silent.read_bytes()), Track(tone_bytes(suffix, 2.0, codec))], container
    )
    silent.unlink()
    content, notes = annotated(path)
    (note,) = notes
    assert "re-encoded" in note
    source = content_of(path)
    assert content.sound is not None
    assert source.sound is not None
    assert len(content.sound) == pytest.approx(len(source.sound), abs=3000)
    # The tone of 440 Hz is still there, at its time.
    spectrum = np.abs(np.fft.rfft(content.sound[:44100]))
    assert np.argmax(spectrum) == pytest.approx(440, abs=2)


@pytest.mark.slow
@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_clip_comes_out_upright(tmp_path: Path, rotation: int) -> None:
    turned = (np.rot90(picture, rotation // 90) for picture in barcode_frames(COUNT))
    path = write_clip(tmp_path / "clip.mp4", turned, rotation=rotation)
    content, _ = annotated(path)
    assert numbers(content) == list(range(COUNT))
    assert content.frames[0].shape[1] == 640


@pytest.mark.slow
def test_odd_sizes_and_long_pixels_are_no_trouble(tmp_path: Path) -> None:
    odd = write_clip(tmp_path / "clip.mkv", barcode_frames(COUNT, (641, 361)), codec="ffv1", pixel_format="bgr0")
    content, _ = annotated(odd)
    assert numbers(content, (641, 361), 1) == list(range(COUNT))
    height, width = content.frames[0].shape[:2]
    assert (width, height % 2) == (642, 0)
    assert height >= 362 + 72
    (tmp_path / "out.mp4").unlink()
    odd.unlink()
    long = write_clip(tmp_path / "clip.mp4", barcode_frames(COUNT), aspect=Fraction(3, 2))
    content, _ = annotated(long)
    assert numbers(content, (480, 180)) == list(range(COUNT))


@pytest.mark.slow
def test_of_a_damaged_clip_comes_what_can_be_decoded(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", barcode_frames(60), options={"g": "12", "bf": "0"})
    damage_packets(path, [20])
    content, notes = annotated(path)
    assert any("damaged" in note or "partial" in note for note in notes)
    found = numbers(content)
    assert found[:20] == list(range(20))
    assert found[-24:] == list(range(36, 60))  # from the next key frame on
    path.unlink()
    path = cut_file(write_clip(tmp_path / "clip.ts", barcode_frames(60), options={"g": "12", "bf": "0"}), 0.5)
    content, _ = annotated(path)
    assert 20 < len(content.frames) < 40


@pytest.mark.slow
def test_a_clip_that_can_not_be_made_costs_one_line(tmp_path: Path) -> None:
    (case,) = write_set(tmp_path, only=r"^d_pts_huge_gap\.mkv$")
    path, out = tmp_path / case.name, tmp_path / "out.mp4"
    with pytest.raises(OutputError, match=r"out\.mp4: a picture would stay for 278 h"):
        annotate_video(path, result_of(path, []), out, policy=POLICY)
    assert not out.exists()


def test_what_is_in_the_way_stays(tmp_path: Path, barcode_clip: Path) -> None:
    path = tmp_path / "clip.mp4"
    shutil.copy(barcode_clip, path)
    result = result_of(path, [row(0.0, BOX)])
    other = tmp_path / "other.mp4"
    shutil.copy(barcode_clip, other)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="not annotated by torchfakes"):
        annotate_video(path, result, other, policy=POLICY)
    with pytest.raises(UsageError, match="is the clip itself"):
        annotate_video(path, result, tmp_path / "." / "clip.mp4", policy=POLICY, force=True)
    with pytest.raises(UsageError, match="MP4 or MOV"):
        annotate_video(path, result, tmp_path / "out.avi", policy=POLICY)
    with pytest.raises(OutputError, match="folder can't be written"):
        annotate_video(path, result, tmp_path / "missing" / "out.mp4", policy=POLICY)
    with pytest.raises(UsageError, match="nothing to draw"):
        annotate_video(path, VideoResult(str(path), Status.ERROR), tmp_path / "out.mp4", policy=POLICY)
    still = VideoInfo("photo.jpg", "jpeg_pipe", "mjpeg", 64, 64, None, None, 1, picture=True)
    with pytest.raises(UsageError, match="a still picture"):
        annotate_video(path, VideoResult("photo.jpg", Status.OK, info=still), tmp_path / "out.mp4", policy=POLICY)
    assert path.read_bytes() == other.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_an_annotated_clip_is_replaced_and_others_by_force(tmp_path: Path, barcode_clip: Path) -> None:
    path, out = tmp_path / "clip.mp4", tmp_path / "out.mov"
    shutil.copy(barcode_clip, path)
    shutil.copy(barcode_clip, out)
    result = result_of(path, [row(0.0, BOX)])
    annotate_video(path, result, out, policy=POLICY, force=True)
    first = out.stat().st_ino
    annotate_video(path, result, out, policy=POLICY)
    assert out.stat().st_ino != first
    assert len(content_of(out).frames) == 60


def test_a_failure_leaves_nothing_behind(tmp_path: Path, barcode_clip: Path) -> None:
    path = tmp_path / "clip.mp4"
    shutil.copy(barcode_clip, path)
    result = result_of(path, [row(0.0, BOX)])

    def stop(done: int, wanted: int | None) -> None:
        assert wanted == 60
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        annotate_video(path, result, tmp_path / "out.mp4", policy=POLICY, progress=stop)
    path.write_bytes(b"no video any more")
    with pytest.raises(MediaError):
        annotate_video(path, result, tmp_path / "out.mp4", policy=POLICY)
    assert [other.name for other in tmp_path.iterdir()] == ["clip.mp4"]
