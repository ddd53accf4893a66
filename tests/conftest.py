"""Fixtures that several test folders share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.clips import barcode_frames, write_clip

if TYPE_CHECKING:
    from pathlib import Path


# As the command line does: torch's threads mustn't spin on cores that others need. Set before anything imports torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A busy machine is no failure: no test is timed.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def barcode_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 2 s H.264 clip at 30 frames a second, 320×180, with B-frames, a key frame each 12, and the index burnt in."""
    path = tmp_path_factory.mktemp("clips") / "barcode.mp4"
    return write_clip(path, barcode_frames(60), options={"g": "12", "bf": "3", "preset": "veryfast"})
