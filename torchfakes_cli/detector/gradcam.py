"""Grad-CAM: heat maps of the places in a crop that a network uses as evidence for "fake" and for "real".

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-Based Localization" (ICCV 2017),
https://arxiv.org/abs/1610.02391. "Real" is the class whose score is the negative logit.

The map is computed at a layer in the middle of the network, which has at least ten places per side for an input of 160
pixels. The last layers have three to five, which is too few to distinguish an eye from a mouth.
"""

from __future__ import annotations

from os import PathLike
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from torchfakes_cli.detector.checkpoint import Header, load_network
from torchfakes_cli.detector.detector import choose_device
from torchfakes_cli.detector.network import EfficientNetLite0, InceptionResnetV1, TimmNetwork
from torchfakes_cli.detector.preprocess import to_input
from torchfakes_cli.detector.registry import find_checkpoint
from torchfakes_cli.errors import ModelError

#: Largest distance in input pixels between neighboring places of the layer.
_MOST_PIXELS_A_PLACE = 16


class GradCam:
    """Grad-CAM of a network; call it with a crop.

    Args:
        network: float32 network without folded batch norm; it is modified.
        header: header of its checkpoint.
        device: device to compute on.

    Raises:
        ModelError: the network has no suitable layer.
    """

    def __init__(self, network: nn.Module, header: Header, device: torch.device) -> None:
        self._network = network.eval().requires_grad_(False).to(device)
        self._layer, self._first, self._step = _layer_of(network)
        self._header = header
        self._device = device

    def __call__(self, crop: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute the maps for "fake" and for "real".

        Args:
            crop: H×W×3 uint8 RGB, cut with the detector's margin and shape.

        Returns:
            Two S×S float32 maps over the whole crop, where S is the network's input size. Each sums to 1, or is 0
            everywhere if there is no evidence for its class.
        """
        places = self.places(crop)
        return self._enlarged(np.maximum(places, 0)), self._enlarged(np.maximum(-places, 0))

    def places(self, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the map at the layer's resolution: positive values are evidence for "fake", negative for "real"."""
        header, kept = self._header, []
        inputs = to_input([crop], header.input_size, header.mean, header.scale, header.crop_size).to(self._device)

        def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            kept.append(output.detach().requires_grad_())
            return kept[0].clone()  # later layers may modify it in place

        hook = self._network.get_submodule(self._layer).register_forward_hook(keep)
        try:
            logit = self._network(inputs).sum()
        finally:
            hook.remove()
        (gradient,) = torch.autograd.grad(logit, kept[0])
        weights = gradient.mean((2, 3), keepdim=True)
        return np.asarray((weights * kept[0].detach()).sum(1)[0].cpu().numpy(), np.float32)

    def _enlarged(self, places: NDArray[np.float32]) -> NDArray[np.float32]:
        """Enlarge a map to the input, with each place at the center of its receptive field and the sum 1."""
        side = self._header.input_size
        step, first = 1 / self._step, -self._first / self._step
        from_input = np.array([(step, 0, first), (0, step, first)])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        heat = cv2.warpAffine(places, from_input, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        total = heat.sum()
        return np.asarray(heat / total if total > 0 else heat, np.float32)


def _layer_of(network: nn.Module) -> tuple[str, float, float]:
    """Return the layer to explain, the input pixel at the center of its first place, and the pixels between places.

    A convolution without padding moves the centers: in InceptionResnetV1 conv2d_1a by 1 pixel (2 apart from then on),
    conv2d_2a by 2, maxpool_3a by 2 (4 apart), conv2d_4a by 4, conv2d_4b by 4 (8 apart). TensorFlow's padding of even
    sides moves them as well.
    """
    if isinstance(network, InceptionResnetV1):
        return "repeat_1", 13, 8
    if isinstance(network, EfficientNetLite0):
        return "blocks.4", 15, 16
    if isinstance(network, TimmNetwork):
        info: Any = getattr(network.model, "feature_info", [])
        found = [stage for stage in info if stage["reduction"] <= _MOST_PIXELS_A_PLACE]
        if found:
            step = float(found[-1]["reduction"])
            return f"model.{found[-1]['module']}", (step - 1) / 2, step
    raise ModelError("there is no Grad-CAM for this network", advice="Choose a convolutional network.")


def load_gradcam(model: str | PathLike[str] | None = None, device: str | torch.device = "auto") -> GradCam:
    """Load the Grad-CAM of a detector; arguments and errors are those of ``load_detector``."""
    chosen = device if isinstance(device, torch.device) else choose_device(device)
    network, header = load_network(find_checkpoint(model))
    return GradCam(network, header, chosen)
