"""Films to measure with: faces that move about in front of a noisy background, as long as wanted."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from tests.clips import write_clip
from tests.portraits import Pixels, scene

FPS = 30
#: Seconds that are encoded; a longer film repeats them.
LOOP_S = 10


def pictures(size: tuple[int, int], faces: int, count: int) -> Iterator[Pixels]:
    """``count`` pictures of (width, height) ``size``: faces in a grid, each moving about in its cell, camera noise."""
    width, height = size
    rng = np.random.default_rng(0)
    coarse = np.clip(rng.normal(110, 25, (height // 32 + 1, width // 32 + 1, 3)), 50, 170).astype(np.uint8)
    background = coarse.repeat(32, 0).repeat(32, 1)[:height, :width]
    noise = rng.integers(0, 7, (2, height + 64, width + 64, 3), dtype=np.uint8)
    columns = int(np.ceil(np.sqrt(faces * width / height)))
    rows = -(-faces // columns)
    cell = min(width // columns, height // rows)
    side = cell * 3 // 4
    heads = [scene((side, side), (side / 2, side / 2), side * (0.4 + 0.01 * step)) for step in range(10)]
    for number in range(count):
        picture = background.copy()
        for face in range(faces):
            row, column = divmod(face, columns)
            x = column * width // columns + round((cell - side) / 2 * (1 + np.sin(number / 40 + face)))
            y = row * height // rows + round((cell - side) / 2 * (1 + np.cos(number / 30 + face)))
            picture[y : y + side, x : x + side] = heads[(number // 15 + face) % len(heads)]
        dy, dx = rng.integers(0, 64, 2)
        brighter, darker = noise[:, dy : dy + height, dx : dx + width]
        yield np.asarray(cv2.subtract(cv2.add(picture, brighter), darker), np.uint8)


def write_film(
    path: Path,
    seconds: int,
    size: tuple[int, int] = (1920, 1080),
    faces: int = 1,
    key_each: int = 250,
    crf: int = 26,
) -> Path:
    """An H.264 film at 30 frames a second with three B-frames and a key frame each 250, as encoders make by default."""
    options = {"preset": "veryfast", "crf": str(crf), "bf": "3", "g": str(key_each)}
    loop = path.with_suffix(".loop.mp4")
    write_clip(loop, pictures(size, faces, min(seconds, LOOP_S) * FPS), fps=Fraction(FPS), options=options)
    if seconds <= LOOP_S:
        return loop.rename(path)
    with av.open(str(path), "w") as output, av.open(str(loop)) as source:
        stream = output.add_stream_from_template(source.streams.video[0])
        assert source.streams.video[0].time_base is not None
        length = round(LOOP_S / source.streams.video[0].time_base)
        for repeat in range(seconds // LOOP_S):
            source.seek(0)
            for packet in source.demux(video=0):
                if packet.dts is None or packet.pts is None:
                    continue
                packet.pts += repeat * length
                packet.dts += repeat * length
                packet.stream = stream
                output.mux(packet)
    loop.unlink()
    return path
