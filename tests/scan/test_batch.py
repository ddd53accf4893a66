from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.report.tables import rows
from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.detector import Detector
from torchfakes_cli.errors import ModelNotFoundError
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.records import Reason, Status
from torchfakes_cli.scan.batch import scan_folder, scan_to_table, settings_digest, stamp_of
from torchfakes_cli.scan.config import ScanConfig, VerdictConfig
from torchfakes_cli.scan.scanner import Scanner, scan_video
from torchfakes_cli.scan.worker_pool import on_devices
from torchfakes_cli.video.options import SamplingConfig

QUICK = ScanConfig(sampling=SamplingConfig(frames=3, frames_fixed=True))


def test_one_bad_file_costs_the_others_nothing(clips: Path, detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "a_broken.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(100))
    (tmp_path / "b_empty.mp4").touch()
    shutil.copy(clips / "empty.mp4", tmp_path / "c_good.mp4")
    results = list(scan_folder(tmp_path, QUICK, detector=detector))
    assert [Path(result.path).name for result in results] == ["a_broken.mp4", "b_empty.mp4", "c_good.mp4"]
    assert [result.status for result in results] == [Status.ERROR, Status.ERROR, Status.OK]
    for failed in results[:2]:
        assert failed.verdict is None
        assert failed.p_fake is None
        assert failed.error
        assert "\n" not in failed.error
        assert failed.path not in failed.error


def test_a_result_comes_while_later_files_are_still_scanned(clips: Path, detector: Detector) -> None:
    done: dict[str, int] = {}
    first, second = str(clips / "empty.mp4"), str(clips / "both.mp4")
    results = scan_folder(
        [first, second], ScanConfig(batch_frames=2), detector=detector, progress=lambda p, n, _: done.update({p: n})
    )
    assert next(results).path == first
    assert done[first] == 6
    assert done.get(second, 0) < 24
    assert next(results).frames_sampled == done[second] == 24


def test_files_scanned_together_have_the_results_of_files_scanned_alone(clips: Path, detector: Detector) -> None:
    several = [clips / "both.mp4", clips / "empty.mp4", clips / "both.mp4"]
    with Scanner(ScanConfig(jobs=3), detector=detector) as scanner:
        together = list(scanner.scan_each(several))
    alone = scan_video(clips / "both.mp4", detector=detector)
    assert [Path(result.path).name for result in together] == ["both.mp4", "empty.mp4", "both.mp4"]
    for result in (together[0], together[2]):
        assert [row.logit for row in result.timeline] == pytest.approx([row.logit for row in alone.timeline], abs=0.01)
        assert [(row.time_s, row.track) for row in result.timeline] == [
            (row.time_s, row.track) for row in alone.timeline
        ]
    assert together[1].reason is Reason.NO_FACE


def test_stopping_early_leaves_no_thread_and_no_process(clips: Path, detector: Detector) -> None:
    with Scanner(QUICK, detector=detector) as scanner:
        results = scanner.scan_each([clips / "empty.mp4", *[clips / "both.mp4"] * 5])
        next(results)
        started = time.monotonic()
        results.close()
        assert time.monotonic() - started < 2
    assert [thread.name for thread in threading.enumerate() if thread.name == "decode"] == []


class Hungry(Detector):
    """Fails on more crops than one of its videos has."""

    def __init__(self, crops: int) -> None:
        super().__init__(Mean(), Header(name="hungry"), torch.device("cpu"), torch.float32)
        self._crops = crops

    def score(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        if len(crops) > self._crops:
            raise RuntimeError("out of memory:\n 3 GiB wanted")
        return super().score(crops)


class Mean(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.mean((1, 2, 3))


def test_an_unexpected_error_is_one_result(clips: Path) -> None:
    hungry = Hungry(12)
    quick = [clips / "both.mp4", clips / "empty.mp4"]
    failed, other = scan_folder(quick, detector=hungry)
    assert failed.status is Status.ERROR
    assert failed.error == "unexpected RuntimeError: out of memory: 3 GiB wanted"
    assert other.status is Status.OK


def test_videos_that_fail_together_are_tried_alone(clips: Path) -> None:
    hungry = Hungry(12)
    config = ScanConfig(sampling=SamplingConfig(frames=8, frames_fixed=True), jobs=4)
    with Scanner(config, detector=hungry) as scanner:
        results = list(scanner.scan_each([clips / "both.mp4"] * 4))
    assert [result.status for result in results] == [Status.OK] * 4
    assert all(result.faces_scored == 12 for result in results)


def test_without_a_model_nothing_is_scanned(clips: Path, tmp_path: Path) -> None:
    scanner = Scanner(QUICK, model=tmp_path / "missing.safetensors")
    with pytest.raises(ModelNotFoundError):
        scanner.load()


def test_what_decides_a_result_has_its_own_digest(tmp_path: Path) -> None:
    model, copy, other = tmp_path / "a", tmp_path / "copy", tmp_path / "other"
    model.write_bytes(b"weights")
    copy.write_bytes(b"weights")
    other.write_bytes(b"others")
    configs = [
        QUICK,
        replace(QUICK, sampling=SamplingConfig(frames=4, frames_fixed=True)),
        replace(QUICK, faces=FaceConfig(blur_threshold=3)),
        replace(QUICK, verdict=VerdictConfig(fake_above=0.5)),
    ]
    digests = [settings_digest(config, model) for config in configs] + [settings_digest(QUICK, other)]
    assert len(set(digests)) == 5
    assert settings_digest(replace(QUICK, device="cpu", batch_frames=2), copy) == digests[0]
    assert len({settings_digest(QUICK, model, on) for on in ("", "cpu int8", "cpu bfloat16", "cuda bfloat16")}) == 4


def test_a_changed_file_has_another_stamp(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    missing = stamp_of(clip, "settings")
    clip.write_bytes(b"content")
    os.utime(clip, ns=(1, 1))
    written = stamp_of(clip, "settings")
    assert written == stamp_of(clip, "settings")
    os.utime(clip, ns=(1, 2_000_000_000))
    touched = stamp_of(clip, "settings")
    clip.write_bytes(b"content and more")
    os.utime(clip, ns=(1, 1))
    assert len({missing, written, touched, stamp_of(clip, "settings"), stamp_of(clip, "others")}) == 5


def test_a_remote_file_without_size_and_time_is_scanned_again() -> None:
    url = "s3://bucket/a.mp4"
    assert stamp_of(url, "settings", state=(7, None)) == stamp_of(url, "settings", state=(7, None))
    assert stamp_of(url, "settings", state=(None, None)) != stamp_of(url, "settings", state=(None, None))


@pytest.mark.slow
def test_a_table_is_continued(clips: Path, tmp_path: Path) -> None:
    folder, results, timelines = tmp_path / "in", tmp_path / "results.csv", tmp_path / "timelines"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"not a video")
    for name in ("b.mp4", "c.mp4"):
        shutil.copy(clips / "empty.mp4", folder / name)
    scan = scan_to_table(folder, results, QUICK, timelines=timelines)
    assert [Path(next(scan).path).name for _ in range(2)] == ["a.mp4", "b.mp4"]
    scan.close()
    assert [Path(each.path).name for each in scan_to_table(folder, results, QUICK, timelines=timelines)] == [
        "a.mp4",
        "c.mp4",
    ]
    assert [Path(row.path).name for row in rows(results)] == ["a.mp4", "b.mp4", "c.mp4"]
    assert len(list(timelines.iterdir())) == 2
    assert list(scan_to_table(folder / "c.mp4", tmp_path / "pool.csv", QUICK, executor=on_devices(devices="cpu")))
