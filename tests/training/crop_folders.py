"""A small folder of crops as ``prepare`` leaves it, with a manipulation that is easy to see."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from tests.portraits import scene
from torchfakes_cli.training.crops.manifest import COLUMNS, LANDMARK_COLUMNS

SIDE = 96
#: Eyes, nose and mouth corners of the portrait in a crop of ``SIDE``.
LANDMARKS = [(37.0, 42.0), (60.0, 42.0), (49.0, 53.0), (39.0, 65.0), (58.0, 65.0)]


def write_crops(folder: Path, people: dict[str, int], frames: int = 4) -> Path:
    """Write crops and their manifest.

    Args:
        folder: is made.
        people: how many each split has; each has a real video and a fake made from it.
        frames: of each video.
    """
    rows = []
    number = 0
    for split, count in people.items():
        for _ in range(count):
            number += 1
            rng = np.random.default_rng(number)
            tone = rng.uniform(0.7, 1.15, 3)
            for frame in range(frames):
                height = SIDE * 0.68 + rng.uniform(-2, 2)
                face = np.clip(scene((SIDE, SIDE), (SIDE / 2, SIDE / 2), height) * tone, 0, 255).astype(np.uint8)
                for label, method in (("real", "film"), ("fake", "swap")):
                    crop = face if label == "real" else manipulated(face)
                    name = f"{split}/{label}/{method}/p{number}/{frame}_1.png"
                    path = folder / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    cv2.imwrite(str(path), crop[..., ::-1])
                    rows.append(row(name, split, label, method, number, frame))
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(folder / "manifest.csv", index=False)
    (folder / "prepare.json").write_text(json.dumps({"settings": {"margin": 1.3}}))
    return folder


def manipulated(face: np.ndarray) -> np.ndarray:
    """A face whose middle is smeared and tinted."""
    smeared = cv2.GaussianBlur(face, (0, 0), 5) + np.array([40.0, -20.0, -20.0], np.float32)
    mask = np.zeros(face.shape[:2], np.float32)
    cv2.ellipse(mask, (SIDE // 2, SIDE // 2 + 4), (SIDE // 4, SIDE // 3), 0, 0, 360, 1.0, -1)
    return np.clip(smeared * mask[..., None] + face * (1 - mask[..., None]), 0, 255).astype(np.uint8)


def row(crop: str, split: str, label: str, method: str, number: int, frame: int) -> dict[str, object]:
    """A line of the manifest."""
    real = f"real/p{number}"
    landmarks = dict(zip(LANDMARK_COLUMNS, np.ravel(LANDMARKS), strict=True))
    return {
        "crop": crop, "split": split, "label": label, "method": method, "group": f"p{number}",
        "video": real if label == "real" else f"fake/swap/p{number}", "source": "" if label == "real" else real,
        "time_s": float(frame), "frame": frame, "face": 1, "x1": 10.0, "y1": 10.0, "x2": 80.0, "y2": 90.0,
        "face_size": 70.0, "confidence": 0.99, "sharpness": 200.0, "changed": None, "boxes_from": "own",
        **landmarks, "blurry": False, "balanced": True,
    }  # fmt: skip
