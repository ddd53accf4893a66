"""MTCNN's three networks with facenet-pytorch's weights, for inference only.

The outputs equal those of facenet-pytorch's modules. Inputs are bytes in channels-last order: normalization is folded
into the first convolution. Of the two classes only the difference of the logits is computed. PReLU and the first
network's pooling work on whole rows of memory, because torch's own kernels are slow for few channels.

The weights are read as files from facenet-pytorch's package. Importing the package would import torchvision, which
takes longer than loading everything else that a scan needs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from torchfakes_cli.errors import ModelNotFoundError

#: Normalization of the networks' training data: (value − 127.5) / 128.
MEAN, SCALE = 127.5, 128.0
#: Input sides of the second and the third network in pixels.
REFINE_SIDE, OUTPUT_SIDE = 24, 48
#: Pixels per call of the first network on a CPU, chosen so that intermediate results stay in the cache.
PIXELS_AT_ONCE = 1 << 18
#: Candidates per call of the later networks: as many as fit in the CPU's cache or in the graphics card's memory.
CANDIDATE_BATCH, CANDIDATE_BATCH_ON_DEVICE = 128, 4096
#: On a CPU the number of candidates in a call is rounded up to a multiple of this, because oneDNN compiles each layer
#: for each size, and keeps memory for it.
CANDIDATE_STEP = 16

Weights = Mapping[str, Tensor]


def load_weights(name: str) -> dict[str, Tensor]:
    """Loads the weights of a network from facenet-pytorch's package.

    Args:
        name: ``pnet``, ``rnet`` or ``onet``.

    Raises:
        ModelNotFoundError: the package isn't installed or is incomplete.
    """
    spec = importlib.util.find_spec("facenet_pytorch")
    path = Path(spec.origin).parent / "data" / f"{name}.pt" if spec and spec.origin else None
    if path is None or not path.is_file():
        advice = "Install it again: pip install --force-reinstall facenet-pytorch==2.5.3"
        raise ModelNotFoundError("the face detector's weights are missing from facenet-pytorch", advice=advice)
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


class ProposalNetwork:
    """First network: classifies each 12×12 window of a picture, at a stride of two pixels, as face or not.

    Args:
        weights: facenet-pytorch's weights.
        device: device of the computation.
        dtype: data type of the computation.
    """

    def __init__(self, weights: Weights, device: torch.device, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._layers = [_first_layer(weights, device, dtype), *(_layer(weights, n, device, dtype) for n in (2, 3))]
        weight, bias = _face_minus_other(weights["conv4_1.weight"], weights["conv4_1.bias"])
        weight = torch.cat([weight, weights["conv4_2.weight"]])
        self._heads = (
            weight.to(device, dtype, memory_format=torch.channels_last),
            torch.cat([bias, weights["conv4_2.bias"]]).to(device, dtype),
        )

    def __call__(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the network on pictures.

        Args:
            pictures: N×H×W×3, values 0 to 255; H and W even and at least 12.

        Returns:
            For h×w windows with h = H / 2 − 5 and w = W / 2 − 5: face logits, N×h×w float32, and the offsets of the
            face's corners from the window's, as shares of the window's side, N×h×w×4.
        """
        outputs = torch.cat([torch.cat([self._look(part) for part in _strips(part)], 1) for part in _parts(pictures)])
        return outputs[..., 0].float(), outputs[..., 1:]

    def _look(self, pictures: Tensor) -> Tensor:
        first, second, third = self._layers
        values = first(pictures.permute(0, 3, 1, 2).to(self._dtype))
        values = torch.maximum(values[:, 0::2], values[:, 1::2])
        values = torch.maximum(values[:, :, 0::2], values[:, :, 1::2])
        features = third(second(values.permute(0, 3, 1, 2)).permute(0, 3, 1, 2))
        return functional.conv2d(features.permute(0, 3, 1, 2), *self._heads).permute(0, 2, 3, 1)


class CandidateNetwork:
    """Second or third network: classifies candidates that were cropped and resized to a square.

    Args:
        weights: facenet-pytorch's weights.
        device: device of the computation.
        dtype: data type of the convolutions; the last layers, which locate the face, are always float32.
    """

    def __init__(self, weights: Weights, device: torch.device, dtype: torch.dtype) -> None:
        self._dtype = dtype
        weights = _widened(weights)
        convolutions = sum(name.startswith("conv") and name.endswith("weight") for name in weights)
        later = (_layer(weights, n, device, dtype) for n in range(2, convolutions + 1))
        self._layers = [_first_layer(weights, device, dtype), *later]
        self.side = OUTPUT_SIDE if convolutions == 4 else REFINE_SIDE
        # The second network has three convolutions on 24 px, the third four on 48 px. Both pool twice by 3, the third
        # also once by 2.
        self._pools = (3, 3, 2)[: convolutions - 1]
        dense, heads = f"dense{convolutions + 1}", f"dense{convolutions + 2}"
        inner = weights[f"{dense}.weight"]
        # facenet-pytorch flattens W×H×C, this class H×W×C.
        inner = inner.view(len(inner), 3, 3, -1).transpose(1, 2).flatten(1)
        self._dense = inner.to(device, dtype), weights[f"{dense}.bias"].to(device, dtype)
        self._slopes = weights[f"prelu{convolutions + 1}.weight"].to(device, dtype)
        logit, bias = _face_minus_other(weights[f"{heads}_1.weight"], weights[f"{heads}_1.bias"])
        parts = [name.removesuffix(".weight") for name in weights if name.startswith(heads) and name.endswith("weight")]
        rest = [part for part in sorted(parts) if not part.endswith("_1")]
        self._heads = (
            torch.cat([logit, *(weights[f"{part}.weight"] for part in rest)]).to(device),
            torch.cat([bias, *(weights[f"{part}.bias"] for part in rest)]).to(device),
        )

    def __call__(self, crops: Tensor) -> Tensor:
        """Runs the network on candidates.

        Args:
            crops: N×S×S×3, values 0 to 255, S the ``side``.

        Returns:
            N×5, or N×15 for the third network, float32: the face probability, the offsets of the face's corners from
            the crop's as shares of its side, and the third network's landmarks (five x, then five y) in the same unit.
        """
        at_once, count = CANDIDATE_BATCH_ON_DEVICE, len(crops)
        if crops.device.type == "cpu":
            at_once = CANDIDATE_BATCH
            crops = functional.pad(crops, (0, 0, 0, 0, 0, 0, 0, -count % CANDIDATE_STEP))
        outputs = torch.cat([self._judge(part) for part in torch.split(crops, at_once)])[:count]
        outputs[:, 0].sigmoid_()
        return outputs

    def _judge(self, crops: Tensor) -> Tensor:
        values = crops.permute(0, 3, 1, 2).to(self._dtype)
        for layer, pool in zip(self._layers, (*self._pools, 0), strict=True):
            values = layer(values).permute(0, 3, 1, 2)
            if pool:
                values = functional.max_pool2d(values, pool, 2, ceil_mode=True)
        inner = functional.linear(values.permute(0, 2, 3, 1).flatten(1), *self._dense)
        return functional.linear(functional.prelu(inner, self._slopes).float(), *self._heads)


def _parts(pictures: Tensor) -> Sequence[Tensor]:
    """Splits pictures (N×H×W×3) into batches that fit in the CPU's cache; one batch on a graphics card."""
    if pictures.device.type != "cpu":
        return [pictures]
    return torch.split(pictures, max(1, PIXELS_AT_ONCE // pictures[0, ..., 0].numel()))


def _strips(pictures: Tensor) -> list[Tensor]:
    """Splits large pictures (N×H×W×3) into strips that together cover the same windows."""
    height, width = pictures.shape[1:3]
    if pictures.device.type != "cpu" or height * width <= PIXELS_AT_ONCE:
        return [pictures]
    windows = height // 2 - 5
    strips = -(-height * width // PIXELS_AT_ONCE)
    at_once = -(-windows // strips)
    return [pictures[:, 2 * start : 2 * (start + at_once) + 10] for start in range(0, windows, at_once)]


class _Layer:
    """Convolution followed by PReLU."""

    def __init__(self, weight: Tensor, bias: Tensor, slopes: Tensor, device: torch.device, dtype: torch.dtype) -> None:
        self._weight = weight.to(device, dtype, memory_format=torch.channels_last)
        self._bias = bias.to(device, dtype)
        self._slopes = slopes.to(device, dtype)

    def __call__(self, values: Tensor) -> Tensor:
        """Maps N×C×H×W to N×H×W×C."""
        values = functional.conv2d(values, self._weight, self._bias).permute(0, 2, 3, 1).contiguous()
        count, height, width, channels = values.shape
        rows = values.view(count * height, width * channels)
        return functional.prelu(rows, self._slopes.repeat(width)).view(count, height, width, channels)


def _layer(weights: Weights, number: int, device: torch.device, dtype: torch.dtype) -> _Layer:
    weight, bias = weights[f"conv{number}.weight"], weights[f"conv{number}.bias"]
    return _Layer(weight, bias, weights[f"prelu{number}.weight"], device, dtype)


def _first_layer(weights: Weights, device: torch.device, dtype: torch.dtype) -> _Layer:
    """First convolution with folded normalization; its inputs 0 to 255 are exact in both half precisions."""
    weight = (weights["conv1.weight"] / SCALE).to(dtype).float()
    # Computed from the rounded weights; otherwise the mean of the picture would leak into the result.
    bias = weights["conv1.bias"] - MEAN * weight.sum((1, 2, 3))
    return _Layer(weight, bias, weights["prelu1.weight"], device, dtype)


def _widened(weights: Weights) -> Weights:
    """Pads the first layer to a multiple of 32 channels, because pooling is slow otherwise.

    The weights of the added channels are 0, so the outputs don't change.
    """
    missing = -len(weights["conv1.weight"]) % 32
    wider = dict(weights)
    for name in ("conv1.weight", "conv1.bias", "prelu1.weight"):
        wider[name] = torch.cat([weights[name], weights[name].new_zeros(missing, *weights[name].shape[1:])])
    wider["conv2.weight"] = functional.pad(weights["conv2.weight"], (0, 0, 0, 0, 0, missing))
    return wider


def _face_minus_other(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Merges two classes into one logit (1×C and 1): softmax([a, b])[1] = sigmoid(b − a)."""
    return weight[1:] - weight[:1], bias[1:] - bias[:1]
