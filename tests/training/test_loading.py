"""Crops are decoded once, whoever reads them, and every way of reading gives training the same."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.crop_folders import write_crops
from torchfakes_cli.errors import DataError
from torchfakes_cli.training.config import TrainConfig
from torchfakes_cli.training.crops.manifest import read_crop, read_manifest
from torchfakes_cli.training.fit import decoded_cache
from torchfakes_cli.training.fit.datasets import TrainingCrops
from torchfakes_cli.training.fit.decoded_cache import DecodedCache
from torchfakes_cli.training.fit.processes import Processes

remembers = pytest.mark.skipif(not hasattr(os, "preadv"), reason="crops are remembered where there is preadv")
CONFIG = TrainConfig(batch=8, samples_per_epoch=16, input_size=75, epochs=2, self_blend=0.5)


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    return write_crops(tmp_path / "crops", {"train": 2}, frames=2)


def remembered(folder: Path) -> tuple[DecodedCache, list[str]]:
    names = read_manifest(folder)["crop"].tolist()
    return DecodedCache(folder, names, range(len(names))), names


@remembers
def test_a_crop_that_was_read_is_not_decoded_again(crops: Path) -> None:
    reader, names = remembered(crops)
    first = [reader.read(row) for row in range(len(names))]
    pixels = [read_crop(crops / name) for name in names]
    assert all(np.array_equal(a, b) for a, b in zip(first, pixels, strict=True))
    for name in names:
        (crops / name).unlink()
    first[0][:] = 0  # what a caller does to a crop stays with the caller
    assert all(np.array_equal(reader.read(row), b) for row, b in enumerate(pixels))


@remembers
def test_the_pixels_have_no_name_on_disk(crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(decoded_cache.tempfile, "tempdir", str(scratch))
    reader, _ = remembered(crops)
    reader.read(0)
    assert not list(scratch.iterdir())


@remembers
def test_there_is_room_for_the_first_ones_only(crops: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = read_manifest(crops)["crop"].tolist()
    monkeypatch.setattr(decoded_cache, "MAX_ROOM", 2 * 3 * 256 * 256)
    reader = DecodedCache(crops, names, [3, 1, 0, 2, *range(4, len(names))])
    for row in range(len(names)):
        reader.read(row)
    for name in names:
        (crops / name).unlink()
    found = []
    for row in range(len(names)):
        try:
            found.append(reader.read(row).shape and row)
        except DataError:
            continue
    assert found == [1, 3]


@pytest.mark.skipif(os.name != "posix", reason="needs a limit for files")
def test_a_full_disk_is_no_trouble(crops: Path) -> None:
    import resource
    import signal

    reader, names = remembered(crops)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        for _ in range(2):
            for row, name in enumerate(names):
                assert np.array_equal(reader.read(row), read_crop(crops / name))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_a_process_that_was_started_afresh_decodes(crops: Path) -> None:
    reader, names = remembered(crops)
    reader.read(0)
    copy = pickle.loads(pickle.dumps(reader))
    assert all(np.array_equal(copy.read(0), read_crop(crops / names[0])) for _ in range(2))


@pytest.mark.parametrize("sampling", ["balanced", "plain"])
def test_threads_draw_what_processes_draw(crops: Path, sampling: str) -> None:
    table, cpu = read_manifest(crops), torch.device("cpu")
    plain = {"sampling": "plain", "ranking": 0.0, "self_blend": 0.0} if sampling == "plain" else {}
    config = replace(CONFIG, **plain)  # type: ignore[arg-type]
    threads = TrainingCrops(table, crops, config, Processes(), cpu)
    processes = TrainingCrops(table, crops, replace(config, workers=1), Processes(), cpu)
    # The second epoch's crops are remembered, the first one's decoded.
    for epoch, step in ((1, 0), (2, 2), (1, 0)):
        pairs = list(zip(threads.epoch(epoch, step), processes.epoch(epoch, step), strict=True))
        assert len(pairs) == 2
        for one, other in pairs:
            assert torch.equal(one.pictures, other.pictures)
            assert torch.equal(one.labels, other.labels)
