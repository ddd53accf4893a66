"""Every command in the README and the documents works as written, where it needs no network, corpus, GPU or cluster."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.clips import write_clip
from tests.portraits import scene
from torchfakes_cli.detector.registry import shipped_checkpoint

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: What this test can't provide: stores, web pages, GPUs, clusters, corpora (test_spine.py has a small one), downloads.
ELSEWHERE = re.compile(
    r"s3://|gs://|https?://|cuda|--device all|--ray|ff\+\+|crops|models (fetch|import|export)|origin|serve|demo"
)


def commands() -> list[str]:
    """All commands in blocks of code, once each, without their comments."""
    found = []
    for document in DOCUMENTS:
        for line in document.read_text(encoding="utf-8").splitlines():
            command = re.match(r"    ((?:find .*\| )?torchfakes .*|sqlite3 .*)", line)
            if command and not ELSEWHERE.search(line):
                found.append(re.split(r" +# ", command[1])[0].strip())
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands name, and the command itself in ``bin``."""
    folder = tmp_path_factory.mktemp("desk")
    pictures = [scene((320, 240), (150 + step % 20, 110), 120.0).clip(0, 255).astype(np.uint8) for step in range(20)]
    (folder / "FOLDER").mkdir()
    write_clip(folder / "clip.mp4", (pictures[number % 20] for number in range(260)), fps=2)
    write_clip(folder / "FOLDER" / "a.mp4", pictures, fps=10)
    write_clip(folder / "FOLDER" / "b.mov", pictures, fps=10)
    Image.fromarray(pictures[0]).save(folder / "photo.jpg", quality=95)
    shutil.copytree(ROOT / "sample_videos", folder / "sample_videos")
    (folder / "runs" / "mine").mkdir(parents=True)
    (folder / "models").mkdir()
    for copy in ("runs/mine/best.safetensors", "models/mine.safetensors"):
        shutil.copy(shipped_checkpoint(), folder / copy)
    (folder / "bin").mkdir()
    program = folder / "bin" / "torchfakes"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m torchfakes_cli "$@"\n')
    program.chmod(0o755)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="the documents' commands are for a POSIX shell")
@pytest.mark.parametrize("command", commands())
def test_command_works_as_written(desk: Path, command: str) -> None:
    if command.startswith("sqlite3") and not shutil.which("sqlite3"):
        pytest.skip("sqlite3 is not installed")
    path = os.pathsep.join([str(desk / "bin"), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "TORCHFAKES_MODELS": str(desk / "models")}
    ended = subprocess.run(
        ["sh", "-c", command], cwd=desk, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_documents_have_commands() -> None:
    assert len(commands()) > 20
