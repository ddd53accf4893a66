"""Decoding alone: PyAV decodes every frame of some clips and converts the sampled ones, nothing else.

    python -m tests.benchmark.bare_decoding RATE clip.mp4 [clip.mp4 …]

``RATE`` is samples a second, or 0 for 32 of each clip.
"""

from __future__ import annotations

import sys

import av


def decode(path: str, fps: float) -> int:
    """How many frames were sampled."""
    sampled = 0
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        assert stream.duration is not None
        assert stream.time_base is not None
        gap = 1 / fps if fps else float(stream.duration * stream.time_base) / 32
        for frame in container.decode(stream):
            if frame.time is not None and frame.time >= sampled * gap:
                frame.to_ndarray(format="rgb24")
                sampled += 1
    return sampled


if __name__ == "__main__":
    print(sum(decode(path, float(sys.argv[1])) for path in sys.argv[2:]), "frames")
