from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import clips, model, session_clips
from tests.clips import write_clip
from tests.people import natural
from tests.service import Server, serving

__all__ = ["clips", "long_clip", "model", "server", "session_clips"]


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten minutes with a face, a frame a second: its scan takes longer than a test waits."""
    return write_clip(tmp_path_factory.mktemp("long") / "long.mp4", [natural()] * 600, fps=1, options={"crf": "40"})


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without a token, for clips of 1 MiB, two of which may wait."""
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, "--model", str(model), "--max-size", "1", "--queue", "2") as running:
        yield running
        assert running.clips == []
