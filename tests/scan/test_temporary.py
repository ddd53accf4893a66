from __future__ import annotations

import tempfile
from io import FileIO
from pathlib import Path

import pytest

from torchfakes_cli.scan.temporary import TemporaryFolder


def test_what_killed_processes_left_is_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("clips-killed", "clips-strange", "elsewhere", "others-killed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "clip.mp4").write_bytes(b"x")
    for name in ("clips-killed", "others-killed"):
        FileIO(tmp_path / name / "lock", "w").close()
    (tmp_path / "clips-link").symlink_to(tmp_path / "elsewhere")
    with TemporaryFolder("clips-") as first, TemporaryFolder("clips-") as second:
        assert first.path.is_dir()
        left = {path.name for path in tmp_path.iterdir()}
    expected = {"clips-strange", "clips-link", "elsewhere", "others-killed"}
    assert left == expected | {first.path.name, second.path.name}
    assert {path.name for path in tmp_path.iterdir()} == expected
    assert (tmp_path / "elsewhere" / "clip.mp4").exists()
