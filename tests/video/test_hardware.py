"""Hardware decoding and its fallback to software."""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import pytest

from tests.clips import barcode_frames, write_clip
from tests.video.test_isolation import children
from torchfakes_cli.video.decode import why_not
from torchfakes_cli.video.isolation.client import IsolatedDecoder
from torchfakes_cli.video.options import SamplingConfig
from torchfakes_cli.video.reader import VideoReader

SAMPLING = SamplingConfig(frames=20, frames_fixed=True)


@pytest.fixture
def without_cuda() -> None:
    if not why_not("cuda", av.Codec("h264", "r")):
        pytest.skip("this machine has what the test wants to miss")


@pytest.mark.usefixtures("without_cuda")
@pytest.mark.parametrize(
    ("name", "reason"), [("cuda", "no such device can be opened"), ("cuda:1", "no such device"), ("toast", "knows")]
)
def test_missing_device_falls_back_to_software(barcode_clip: Path, name: str, reason: str) -> None:
    with VideoReader(barcode_clip) as here, VideoReader(barcode_clip, hwaccel=name) as there:
        for ours, theirs in zip(here.frames(SAMPLING), there.frames(SAMPLING), strict=True):
            assert ours.index == theirs.index
            np.testing.assert_array_equal(ours.pixels, theirs.pixels)
        (warning,) = there.report.warnings
    assert warning.startswith(f"{name} can't be used (")
    assert reason in warning
    assert warning.endswith("decoded in software")


def test_codec_without_device_decoder_falls_back_to_software(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.avi", barcode_frames(10, (64, 48)), codec="ffv1")
    with VideoReader(path, hwaccel="cuda") as video:
        assert len(list(video.frames(SAMPLING))) == 10
        assert video.report.warnings == ("cuda can't be used (no decoder for ffv1): decoded in software",)


def test_counted_frames_are_decoded_in_software(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.h264", barcode_frames(10, (64, 48)))
    with VideoReader(path, hwaccel="cuda") as video:
        assert len(list(video.frames(SAMPLING))) == 10
        assert video.report.warnings == ("cuda can't be used (its frames have no times): decoded in software",)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux")
@pytest.mark.parametrize("name", [None, "cuda"])
def test_memory_limit_holds_only_without_a_device(barcode_clip: Path, name: str | None) -> None:
    before = set(children())
    with IsolatedDecoder(hwaccel=name) as decoder, decoder.open(barcode_clip) as video:
        (worker,) = set(children()) - before
        assert len(list(video.frames(SAMPLING))) == 20
        assert any("decoded in software" in warning for warning in video.report.warnings) <= (name is not None)
        limits = Path(f"/proc/{worker}/limits").read_text().splitlines()
        (addresses,) = [line for line in limits if line.startswith("Max address space")]
        assert (addresses.split()[3] == "unlimited") == (name is not None)


@pytest.mark.gpu
def test_device_and_software_pictures_match(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", barcode_frames(120, (640, 360)), options={"g": "30", "bf": "3"})
    with VideoReader(path) as here, IsolatedDecoder(hwaccel="cuda") as decoder, decoder.open(path) as there:
        for ours, theirs in zip(here.frames(SAMPLING), there.frames(SAMPLING), strict=True):
            assert (ours.index, ours.time_s) == (theirs.index, theirs.time_s)
            difference = np.abs(ours.pixels.astype(int) - theirs.pixels)
            assert difference.max() <= 4
            assert difference.mean() < 0.5
        assert there.report.warnings == ()
