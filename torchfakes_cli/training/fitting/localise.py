"""Learning where a face was manipulated, beside whether: a map of places that only training looks at.

One bit a picture teaches a network slowly, and a few people are learned by heart before the manipulation is. Where a
fake was blended while training, or lies beside its original, every place of it is known to be manipulated or not, and
the place must then be judged by what is seen there. As in Dang et al., "On the Detection of Digital Face Manipulation"
(CVPR 2020), https://arxiv.org/abs/1910.01717, and "Face X-ray" (Li et al., CVPR 2020), but the map is left out of the
checkpoint, which holds the same network with and without it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchfakes_cli.detector.inception_resnet import InceptionResnetV1
from torchfakes_cli.detector.network import portable_state

#: Channels of the network's map of features.
_FEATURES = 896


class Localising(InceptionResnetV1):
    """The classifier, with a map of what was manipulated where while it is being trained.

    Args:
        dropout: share of the pooled features left out in training.
    """

    def __init__(self, dropout: float = 0.6) -> None:
        super().__init__(dropout=dropout)
        self.mask_head = nn.Conv2d(_FEATURES, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """N×3×S×S to N×1 logits; in training to N×(1 + H·W), each followed by those of its places, row by row."""
        if not self.training:
            return super().forward(x)
        features = self.map_features(x)
        # In float32: half precision is for the large sums alone.
        return torch.cat([self.judge(features).float(), self.mask_head(features).float().flatten(1)], 1)


def detector_state(network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a checkpoint: those of the classifier, without what training alone needs."""
    return {name: tensor for name, tensor in portable_state(network).items() if not name.startswith("mask_head.")}


def mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy over the places whose mask is known, each of which weighs alike.

    Args:
        logits: N×(H·W), row by row of a square map.
        masks: N×M×M, 0 to 1; NaN where nothing is known.

    Returns:
        A scalar; 0 where no mask is known.
    """
    side = round(logits.shape[1] ** 0.5)
    wanted = functional.adaptive_avg_pool2d(masks[:, None], side).flatten(1)
    known = ~wanted.isnan()
    losses = functional.binary_cross_entropy_with_logits(logits, wanted.nan_to_num(), reduction="none")
    return (losses * known).sum() / known.sum().clamp_min(1)
