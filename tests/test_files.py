from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from torchfakes_cli.files import remove_abandoned, temporary_folder


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
    with temporary_folder("clips-") as first, temporary_folder("clips-") as second:
        assert first.is_dir()
        left = {path.name for path in tmp_path.iterdir()}
    expected = {"clips-strange", "clips-link", "elsewhere", "others-killed"}
    assert left == expected | {first.name, second.name}
    assert {path.name for path in tmp_path.iterdir()} == expected
    assert (tmp_path / "elsewhere" / "clip.mp4").exists()


def test_a_folder_is_kept_while_its_process_lives_and_removed_after_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = (
        "import sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from torchfakes_cli.files import temporary_folder\n"
        "with temporary_folder('clips-') as folder:\n"
        "    print(folder, flush=True); sys.stdin.read()\n"
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
