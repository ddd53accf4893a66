"""A scan takes no more memory for two hours than for ten seconds, nor does drawing over a longer clip."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.clips import barcode_frames, write_clip
from tests.torture import write_set
from tests.usage import TELLS_MEMORY, usage_of
from torchfakes_cli.video.probing import examine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TELLS_MEMORY, reason="this system doesn't tell a process's peak memory"),
]

COMMAND = [sys.executable, "-c", "from torchfakes_cli.cli import main; main()", "scan"]


def peak_memory(clip: Path, model: Path, *options: str) -> float:
    """Of the scan or of its decoder, whichever is larger, in MiB."""
    return usage_of([*COMMAND, str(clip), "--json", "--model", str(model), *options]).peak_mib


def test_peak_memory_does_not_grow_with_length(model: Path, tmp_path: Path) -> None:
    (case,) = write_set(tmp_path, only=r"^d_long_2h\.mp4$")
    clip = tmp_path / case.name
    ten_seconds = peak_memory(clip, model, "--end", "10")
    two_hours = peak_memory(clip, model)
    sys.stdout.write(f"\npeak memory: {two_hours:.0f} MiB for two hours, {ten_seconds:.0f} for ten seconds of it\n")
    assert two_hours <= 1.1 * ten_seconds


def test_annotating_takes_no_more_memory_for_a_longer_clip(model: Path, tmp_path: Path) -> None:
    lengths = {"short": 150, "long": 3000}
    peaks = {}
    for name, count in lengths.items():
        clip = write_clip(tmp_path / f"{name}.mp4", barcode_frames(count, (640, 360)))
        out = tmp_path / f"{name}.out.mp4"
        peaks[name] = peak_memory(clip, model, "--frames", "4", "--annotate", str(out))
        assert examine(out).info.frame_count == count
    sys.stdout.write(f"\npeak memory: {peaks['long']:.0f} MiB for 100 s, {peaks['short']:.0f} for 5 s\n")
    assert peaks["long"] <= 1.05 * peaks["short"]
