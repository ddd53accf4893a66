from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from torchfakes_cli.config import FaceConfig, SamplingConfig, ScanConfig, VerdictConfig
from torchfakes_cli.detector import Detector
from torchfakes_cli.errors import ModelNotFoundError
from torchfakes_cli.records import Status
from torchfakes_cli.scan import Scanner, scan_files, scan_folder, settings_digest, stamp_of

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


def test_results_come_one_by_one(clips: Path, detector: Detector, tmp_path: Path) -> None:
    results = scan_folder([clips / "empty.mp4", tmp_path / "later.mp4"], QUICK, detector=detector)
    assert next(results).status is Status.OK
    shutil.copy(clips / "empty.mp4", tmp_path / "later.mp4")
    assert next(results).status is Status.OK


def test_an_unexpected_error_is_one_result(clips: Path, detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    scanner = Scanner(QUICK, detector=detector)

    def out_of_memory(crops: object) -> None:
        raise RuntimeError("out of memory:\n 3 GiB wanted")

    monkeypatch.setattr(detector, "score", out_of_memory)
    (result,) = scan_files(scanner, [clips / "both.mp4"])
    assert result.status is Status.ERROR
    assert result.error == "unexpected RuntimeError: out of memory: 3 GiB wanted"


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
