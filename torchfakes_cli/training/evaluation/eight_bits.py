"""What a network's header has to say so that scans may compute it in 8 bits."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.eight_bit import EightBitNetwork, highest_activations
from torchfakes_cli.detector.inception_resnet import InceptionResnetV1
from torchfakes_cli.detector.network import fold_batch_norm
from torchfakes_cli.detector.preprocess import to_input
from torchfakes_cli.detector.scoring import SCORE_BATCH
from torchfakes_cli.training.crops.reading import read_crop

#: Crops that are looked at, evenly among all: more of them hardly move what was found.
CROPS = 512


@torch.inference_mode()
def measure_eight_bits(
    network: nn.Module, header: Header, folder: Path, crops: Sequence[str], seed: int = 0
) -> dict[str, Any]:
    """Measure each layer's highest activation, and by how much 8 bits change the network's logits.

    The two on different crops, one half each. On the CPU, in float32, with the rounding of 8 bits: on any machine.

    Args:
        network: in evaluation mode, on the CPU; stays as it is.
        header: says how crops become input.
        folder: of the crops.
        crops: paths in it, that can be read.
        seed: of the choice of crops.

    Returns:
        For ``Header.eight_bit``; empty where there are fewer than two crops, or with a network of another kind.
    """
    if len(crops) < 2 or not isinstance(network, InceptionResnetV1):
        return {}
    chosen = np.random.default_rng(seed).permutation(len(crops))[:CROPS]
    first, second = ([crops[place] for place in sorted(half)] for half in np.array_split(chosen, 2))
    highest = highest_activations(network, _inputs(folder, first, header))
    folded = fold_batch_norm(copy.deepcopy(network))
    assert isinstance(folded, InceptionResnetV1)
    simulated = EightBitNetwork(folded, highest, header.input_size, real=False)
    change = max(float((folded(x) - simulated(x)).abs().max()) for x in _inputs(folder, second, header))
    return {"highest": {name: float(f"{value:.5g}") for name, value in highest.items()}, "change": round(change, 4)}


def _inputs(folder: Path, crops: Sequence[str], header: Header) -> Iterable[Tensor]:
    for start in range(0, len(crops), SCORE_BATCH):
        pictures = [read_crop(folder / crop) for crop in crops[start : start + SCORE_BATCH]]
        inputs = to_input(pictures, header.input_size, header.mean, header.scale, header.crop_size)
        yield inputs.contiguous(memory_format=torch.channels_last)
