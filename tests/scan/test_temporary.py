from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from torchfakes_cli.scan.temporary import TemporaryFolder, remove_abandoned


def test_what_killed_processes_left_is_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("clips-killed", "clips-strange", "elsewhere", "others-killed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "clip.mp4").write_bytes(b"x")
    for name in ("clips-killed", "others-killed"):
        (tmp_path / name / "lock").touch()
    (tmp_path / "clips-link").symlink_to(tmp_path / "elsewhere")
    with TemporaryFolder("clips-") as first, TemporaryFolder("clips-") as second:
        assert first.path.is_dir()
        left = {path.name for path in tmp_path.iterdir()}
    expected = {"clips-strange", "clips-link", "elsewhere", "others-killed"}
    assert left == expected | {first.path.name, second.path.name}
    assert {path.name for path in tmp_path.iterdir()} == expected
    assert (tmp_path / "elsewhere" / "clip.mp4").exists()


def test_a_folder_is_kept_while_its_process_lives_and_removed_after_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = (
        "import sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from torchfakes_cli.scan.temporary import TemporaryFolder\n"
        "with TemporaryFolder('clips-') as folder:\n"
        "    print(folder.path, flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        (folder / "clip.mp4").write_bytes(b"x")
        remove_abandoned("clips-")
        assert (folder / "clip.mp4").exists()
        assert folder.stat().st_mode & 0o077 == 0
        process.kill()
    remove_abandoned("clips-")
    assert not folder.exists()
