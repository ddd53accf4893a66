"""Makes the sample videos of this folder: a moving face, the same face manipulated, and a scene without a face.

Sources: ``skimage.data.astronaut()`` (a NASA portrait, public domain) and ``skimage.data.rocket()`` (a SpaceX launch,
CC0), both inside scikit-image. The manipulation is written here on its own, apart from what training uses.

    pip install '.[samples]'
    python sample_videos/make_samples.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

Picture = NDArray[np.uint8]

WIDTH, HEIGHT = 1920, 1080
FPS = 30
#: Rooms are dimmer than the studio where the portrait was taken, this one by half, that one by a tenth.
DIM, BRIGHT = 0.5, 0.9
#: Center of the astronaut's face and the distance from it to the chin, in pixels of the portrait.
FACE_CENTER = (223.0, 116.0)
FACE_RADII = (40.0, 57.0)


def camera_path(frame: int, size: tuple[int, int], zoom: float, seconds: int) -> NDArray[np.float64]:
    """Where a hand-held camera puts a picture of (width, height) pixels: a slow drift, a slow turn, a small tremble."""
    t = frame / (FPS * seconds)
    scale = zoom * (1 + 0.06 * np.sin(2 * np.pi * t))
    angle = 3.0 * np.sin(2 * np.pi * t * 0.7)
    matrix = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), angle, scale)
    matrix[0, 2] += WIDTH / 2 - size[0] / 2 + 120 * np.sin(2 * np.pi * t) + 3 * np.sin(frame * 0.9)
    matrix[1, 2] += HEIGHT / 2 - size[1] / 2 + 30 * np.cos(2 * np.pi * t) + 2 * np.sin(frame * 1.3)
    return matrix


def filmed(
    picture: Picture, frame: int, zoom: float, seconds: int, grain: float, exposure: float, rng: np.random.Generator
) -> Picture:
    """One 1080p frame of a picture in front of its own blurred surroundings, with sensor noise."""
    height, width = picture.shape[:2]
    matrix = camera_path(frame, (width, height), zoom, seconds)
    backdrop = cv2.resize(cv2.GaussianBlur(picture, (0, 0), 25), (WIDTH, HEIGHT))
    scene = cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    inside = cv2.warpAffine(np.ones((height, width), np.float32), matrix, (WIDTH, HEIGHT))
    inside = cv2.GaussianBlur(inside, (0, 0), 6)[..., None]
    # Noise of half the resolution compresses well and still looks like a camera's.
    noise = cv2.resize(rng.normal(0, grain, (HEIGHT // 2, WIDTH // 2)).astype(np.float32), (WIDTH, HEIGHT))[..., None]
    return np.clip(exposure * (scene * inside + backdrop * (1 - inside)) + noise, 0, 255).astype(np.uint8)


def manipulated(portrait: Picture) -> Picture:
    """The portrait with another rendering of the face blended over it, as face swappers do.

    The face is generated at a low resolution, with even less detail in its colors, enlarged and sharpened, a little
    larger and in other light, and a wide soft oval mask joins the two.
    """
    size = (portrait.shape[1], portrait.shape[0])
    x, y = FACE_CENTER
    moved = cv2.warpAffine(
        portrait, np.array([[1.05, 0, -0.05 * x + 2], [0, 1.05, -0.05 * y - 1]]), size, flags=cv2.INTER_CUBIC
    )
    coarse = cv2.resize(moved, (size[0] // 4, size[1] // 4), interpolation=cv2.INTER_AREA)
    face = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    face = np.clip(2 * face - cv2.GaussianBlur(face, (0, 0), 2.0), 0, 255)
    colors = cv2.cvtColor((face / 255).clip(0, 1).astype(np.float32), cv2.COLOR_RGB2YCrCb)
    colors[..., 1:] = cv2.GaussianBlur(colors[..., 1:], (0, 0), 8)
    face = cv2.cvtColor(colors, cv2.COLOR_YCrCb2RGB) * 255 + np.array([21.0, -6.0, -18.0])
    mask = np.zeros(portrait.shape[:2], np.float32)
    radii = round(1.2 * FACE_RADII[0]), round(1.2 * FACE_RADII[1])
    cv2.ellipse(mask, (round(x), round(y) + 4), radii, 0, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 8.0)[..., None]
    return np.clip(face * mask + portrait * (1 - mask), 0, 255).astype(np.uint8)


def frames(picture: Picture, zoom: float, seconds: int, grain: float, exposure: float = DIM) -> Iterator[Picture]:
    """All frames of one clip."""
    rng = np.random.default_rng(0)
    for frame in range(FPS * seconds):
        yield filmed(picture, frame, zoom, seconds, grain, exposure, rng)


def write_clip(path: Path, pictures: Iterator[Picture]) -> None:
    """Write frames as an H.264 MP4 of 30 frames a second."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options={"crf": "25", "preset": "slow"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def main() -> None:
    """Write the three clips."""
    parser = argparse.ArgumentParser(description="Make the sample videos.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out: Path = parser.parse_args().out
    portrait = np.ascontiguousarray(data.astronaut())
    clips: dict[str, Callable[[], Iterator[Picture]]] = {
        "astronaut_real.mp4": lambda: frames(portrait, 2.3, 5, 4.0),
        "astronaut_fake.mp4": lambda: frames(manipulated(portrait), 2.3, 4, 4.0, BRIGHT),
        "launch_no_face.mp4": lambda: frames(np.ascontiguousarray(data.rocket()), 2.4, 5, 1.5),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, pictures in clips.items():
        write_clip(out / name, pictures())


if __name__ == "__main__":
    main()
