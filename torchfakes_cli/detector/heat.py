"""Grad-CAM: where in a crop the network finds what speaks for "fake", and what speaks for "real".

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-Based Localization" (ICCV 2017),
https://arxiv.org/abs/1610.02391, on the last block. What follows that block is linear (an average over its cells, and
layers without activation), so here the map is no approximation: its cells, with their signs, add up to the logit but
for a constant. "Real" is the class whose score is the negative logit; its map holds the cells of the other sign.

A texture beside the network (see ``detector.texture``) adds to the logit what its places add, and so it does to the
map, in the share that it has in the logit.

The cells are few, 3×3 for crops of 160 pixels, and what a cell says is gathered from a good part of the face. So a map
shows each cell's share spread as widely as what it sees, rather than a sharpness that isn't there.
"""

from __future__ import annotations

from os import PathLike

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchcam.methods import GradCAM

from torchfakes_cli.detector.checkpoint import Header, load_checkpoint
from torchfakes_cli.detector.network import blank_network, load_weights
from torchfakes_cli.detector.preprocess import to_input
from torchfakes_cli.detector.registry import find_checkpoint, shipped_checkpoint
from torchfakes_cli.detector.scoring import choose_device
from torchfakes_cli.detector.texture import USUAL, Texture, split_texture

_LAYER = "block8"
# Where the cells of the last block lie in the input, in pixels: the centre of the first one's receptive field, and the
# way from one to the next. Layers without padding move it: conv2d_1a by 1 (2 pixels apart from then on), 2a by 2,
# maxpool_3a by 2 (4 apart), 4a by 4, 4b by 4 (8 apart), mixed_6a by 8 (16 apart), mixed_7a by 16 (32 apart). To stretch
# the map over the whole picture instead, as is common, would put its last row 32 pixels too low. Measured on portraits,
# the pixels that a cell of the shipped detector is sensitive to lie around such a point (those of the outer cells, for
# layers with padding mix neighbours, 5 to 23 pixels nearer to the middle), with a standard deviation of 25 to 33.
_FIRST_CELL = 37
_CELLS_APART = 32
_SPREAD = 28.0
#: Side in pixels of the input that gives one cell.
_SMALLEST_INPUT = 75


class HeatMaps:
    """Computes heat maps of crops.

    Args:
        network: with float32 weights, not fused; owned from now on.
        header: of its checkpoint.
        device: where to compute.
        texture: of the checkpoint; None where it has none.
    """

    def __init__(
        self, network: nn.Module, header: Header, device: torch.device, texture: Texture | None = None
    ) -> None:
        self._network = network.eval().requires_grad_(False).to(device)
        # Gradients are wanted from the last block on, and nothing before it needs to be remembered.
        self._network.get_submodule(_LAYER).requires_grad_(True)
        self._header = header
        self._texture = texture
        self._device = device

    def __call__(
        self, crop: NDArray[np.uint8], landmarks: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Computes what speaks for "fake" and what for "real".

        Args:
            crop: H×W×3 uint8 RGB, cut with the detector's margin and shape.
            landmarks: 5×2, (x, y) in pixels of the crop; None takes them to lie where they usually do.

        Returns:
            Two maps over the whole crop, S×S float32 with the network's input size; each sums to 1, or is 0 everywhere
            where nothing speaks for its class.
        """
        cells = self.cells(crop)
        if self._texture is None:
            return _normed(self._laid_out(np.maximum(cells, 0))), _normed(self._laid_out(np.maximum(-cells, 0)))
        cells = cells * np.float32(self._texture.network_weight)
        places = USUAL * crop.shape[1::-1] if landmarks is None else landmarks
        shares = self._texture.shares(crop, places)
        side = self._header.input_size
        reduced = cv2.resize(shares, (side, side), interpolation=cv2.INTER_AREA)
        # Fewer places, the same sum.
        reduced = reduced * np.float32(shares.size / reduced.size)
        fake, real = (
            _normed(self._laid_out(np.maximum(sign * cells, 0)) + np.maximum(sign * reduced, 0)) for sign in (1, -1)
        )
        return fake, real

    @property
    def even(self) -> NDArray[np.float32]:
        """The map of a detector that finds the same everywhere: how far each place is seen at all."""
        if self._texture is not None:
            # Its places cover the crop, and the network's cells, which count little beside it, nearly do.
            places = np.ones((self._header.input_size, self._header.input_size), np.float32)
            return _normed(places)
        side = (self._header.input_size - _SMALLEST_INPUT) // _CELLS_APART + 1
        return _normed(self._laid_out(np.ones((side, side), np.float32)))

    def cells(self, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The map as the network has it.

        Args:
            crop: as for a call.

        Returns:
            A value a cell, float32, 3×3 for an input of 160 pixels: positive where it speaks for "fake". They add up
            to the logit but for a constant of the network.
        """
        with GradCAM(self._network, _LAYER) as grad_cam:
            logit = self._network(self.input_of(crop))
            (fake,) = grad_cam(0, logit, normalized=False, retain_graph=True)
            (real,) = grad_cam(0, -logit, normalized=False)
        return np.asarray((fake[0] - real[0]).cpu().numpy(), np.float32)

    def input_of(self, crop: NDArray[np.uint8]) -> Tensor:
        """A crop as the network gets it, 1×3×S×S float32."""
        header = self._header
        return to_input([crop], header.input_size, header.mean, header.scale, header.crop_size).to(self._device)

    def _laid_out(self, cells: NDArray[np.float32]) -> NDArray[np.float32]:
        """Spreads each cell's value over the places that it sees, so that their sum is the cells'."""
        centres = _FIRST_CELL + _CELLS_APART * np.arange(len(cells), dtype=np.float32)
        places = np.arange(self._header.input_size, dtype=np.float32)
        weights = np.exp(-0.5 * ((places[:, None] - centres) / _SPREAD) ** 2)
        weights /= weights.sum(0)
        laid = weights @ cells @ weights.T
        return np.asarray(laid * (cells.sum() / laid.sum() if laid.sum() > 0 else 1.0), np.float32)


def _normed(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """With the sum 1, where there is anything."""
    total = heat.sum()
    return np.asarray(heat / total if total > 0 else heat, np.float32)


def load_heat_maps(model: str | PathLike[str] | None = None, device: str | torch.device = "auto") -> HeatMaps:
    """Loads what heat maps of a detector need; see ``load_detector``."""
    chosen = device if isinstance(device, torch.device) else choose_device(device)
    path = find_checkpoint(model) if model is not None else shipped_checkpoint()
    state, header = load_checkpoint(path)
    weights, texture = split_texture(state, str(path))
    network = blank_network(header.architecture)
    load_weights(network, weights, str(path))
    return HeatMaps(network, header, chosen, texture)
