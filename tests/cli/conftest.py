from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.clips import write_clip
from tests.people import natural
from torchfakes_cli.detector.checkpoint import Header, save_checkpoint
from torchfakes_cli.detector.network import build_network, portable_state


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector with random weights, which takes every face for a fake: ``p_fake`` is near 0.95."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    save_checkpoint(path, portable_state(build_network()), Header(name="random", intercept=3.0), torch.float16)
    return path


@pytest.fixture(scope="session")
def session_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "face.mp4", [natural()] * 6, fps=6)
    write_clip(folder / "empty.mp4", [natural()[:64, :64] * 0 + 90] * 6, fps=6)
    return folder


@pytest.fixture
def clips(session_clips: Path, tmp_path: Path) -> Path:
    """A folder of one's own with ``face.mp4``, ``empty.mp4`` (no face) and ``broken.mp4``."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for clip in session_clips.iterdir():
        (folder / clip.name).write_bytes(clip.read_bytes())
    (folder / "broken.mp4").write_bytes(b"not a video at all")
    return folder
