"""The straightforward training loop that benchmarks compare with.

A dataset that reads with OpenCV and changes pictures in NumPy, PyTorch's loader, and a loop in float32 over a network
in PyTorch's usual layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from facenet_pytorch import InceptionResnetV1
from torch import nn
from torch.utils.data import DataLoader, Dataset

from torchfakes_cli.video.encode import h264_round_trip

SIZE = 160


class PlainCrops(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Files with labels, changed as ``--augment strong`` changes them (or not at all), with the same odds."""

    def __init__(self, files: list[tuple[Path, float]], augment: str, length: int) -> None:
        self.files, self.augment, self.length = files, augment, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng(number)
        path, label = self.files[int(rng.integers(len(self.files)))]
        picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        picture = cv2.resize(picture, (SIZE, SIZE)) if self.augment == "none" else _changed(picture, rng)
        values = (torch.from_numpy(picture.copy()).permute(2, 0, 1).float() - 127.5) / 128
        return values, torch.tensor([label])


def _changed(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side = picture.shape[0]
    kept = int(side * rng.uniform(0.86, 1))
    left, top = rng.integers(0, side - kept + 1, 2)
    picture = cv2.resize(picture[top : top + kept, left : left + kept], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    if rng.random() < 0.6:
        toned = picture * rng.uniform(0.94, 1.06, 3) * rng.uniform(0.85, 1.15) + rng.uniform(-20, 20)
        picture = np.clip(toned, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        small = int(SIZE / rng.uniform(1.2, 2.5))
        picture = cv2.resize(cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA), (SIZE, SIZE))
    if rng.random() < 0.35:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.2))
    if rng.random() < 0.2:
        picture = np.clip(picture + rng.normal(0, rng.uniform(1, 6), picture.shape), 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 101))]
        picture = cv2.imdecode(cv2.imencode(".jpg", picture, quality)[1], cv2.IMREAD_COLOR)
    if rng.random() < 0.4:
        picture = h264_round_trip([np.ascontiguousarray(picture)], int(rng.integers(23, 41)))[0]
    return picture


def plain_loader(dataset: PlainCrops, batch: int, workers: int) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """PyTorch's loader as it comes."""
    return DataLoader(dataset, batch_size=batch, num_workers=workers)


def plain_steps(batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> Iterator[None]:
    """An update for each batch."""
    network = InceptionResnetV1(classify=True, num_classes=1).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    criterion = nn.BCEWithLogitsLoss()
    for pictures, labels in batches:
        optimizer.zero_grad()
        loss = criterion(network(pictures), labels)
        loss.backward()
        optimizer.step()
        loss.item()
        yield
