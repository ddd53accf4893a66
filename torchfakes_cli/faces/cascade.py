"""MTCNN over batches of frames: three networks, each looking closer at what the one before let through.

The networks and weights are facenet-pytorch's; the driver is ours. It takes frames of mixed sizes, has no trouble with
frames that hold no face or are too small for one, works on one reduced picture a frame, and resizes all candidates of a
batch at once. The method: Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
Networks" (2016), https://arxiv.org/abs/1604.02878.
"""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import batched_nms, roi_align

from torchfakes_cli.config import FaceConfig
from torchfakes_cli.records import Box, Face, Point

#: Smallest face the first network sees, in pixels of a pyramid level (its receptive field).
PROPOSAL_CELL = 12
#: Pixels between neighbouring outputs of the first network.
PROPOSAL_STRIDE = 2
#: Ratio between levels of the pyramid, and the score each network must give: facenet-pytorch's defaults.
PYRAMID_FACTOR = 0.709
STAGE_THRESHOLDS = (0.6, 0.7, 0.7)
#: Frames are reduced until the smallest face wanted has this many pixels: the second network looks at 24.
REDUCED_FACE = 24
#: Candidates given to a network at once; bounds memory on crowded frames.
CANDIDATE_BATCH = 512


class FaceDetector:
    """Finds faces and their five landmarks.

    Args:
        config: smallest face and lowest confidence.
        device: where the networks run.
    """

    def __init__(self, config: FaceConfig | None = None, device: torch.device | str = "cpu") -> None:
        self.config = config or FaceConfig()
        self.device = torch.device(device)
        self._proposal = _network(PNet, "pnet.pt", self.device)
        self._refine = _network(RNet, "rnet.pt", self.device)
        self._output = _network(ONet, "onet.pt", self.device)

    def detect(
        self, frames: Sequence[NDArray[np.uint8]], config: FaceConfig | None = None, *, any_size: bool = False
    ) -> list[list[Face]]:
        """Find the faces in each frame.

        Args:
            frames: H×W×3 uint8 RGB each; sizes may differ.
            config: instead of the detector's own.
            any_size: give also the smaller faces that come up in the search for those wanted.

        Returns:
            For each frame its faces, largest first; empty where there is none.
        """
        config = config or self.config
        by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for position, frame in enumerate(frames):
            by_size[frame.shape].append(position)
        found: list[list[Face]] = [[] for _ in frames]
        for positions in by_size.values():
            equal = self._detect_equal([frames[p] for p in positions], config)
            for position, faces in zip(positions, equal, strict=True):
                found[position] = [face for face in faces if any_size or face.size >= config.smallest]
        return found

    @torch.inference_mode()
    def _detect_equal(self, frames: Sequence[NDArray[np.uint8]], config: FaceConfig) -> list[list[Face]]:
        """Detect on frames of one size."""
        height, width = frames[0].shape[:2]
        reduction = min(1.0, REDUCED_FACE / config.min_face)
        size = (max(1, round(width * reduction)), max(1, round(height * reduction)))
        reduced = [f if size == (width, height) else cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames]
        pictures = torch.from_numpy(np.stack(reduced)).to(self.device).permute(0, 3, 1, 2)
        boxes, owners = self._propose(pictures, config.min_face * reduction)
        landmarks = torch.zeros(0, 5, 2, device=self.device)
        scores = torch.zeros(0, device=self.device)
        if len(boxes):
            levels = _halvings((pictures.float() - 127.5) / 128, REDUCED_FACE)
            boxes, owners = self._refined(levels, boxes, owners)
            boxes, owners, scores, landmarks = self._outputs(levels, boxes, owners)
        to_frame = torch.tensor([width / size[0], height / size[1]], device=self.device)
        boxes = boxes * to_frame.repeat(2)
        landmarks = landmarks * to_frame
        return _faces(len(frames), boxes, owners, scores, landmarks, config.confidence)

    def _propose(self, pictures: Tensor, min_face: float) -> tuple[Tensor, Tensor]:
        """First stage, on every level of the pyramid.

        Args:
            pictures: N×3×H×W uint8.
            min_face: in pixels of the pictures.

        Returns:
            Boxes M×4 and the picture each belongs to, M.
        """
        height, width = pictures.shape[2:]
        # Bilinear with antialiasing has a fast path for uint8 on the CPU, and none at all on CUDA.
        source = pictures if self.device.type == "cpu" else pictures.float()
        boxes, scores, owners = [], [], []
        scale = PROPOSAL_CELL / min_face
        while min(height, width) * scale >= PROPOSAL_CELL:
            level_size = [int(height * scale + 1), int(width * scale + 1)]
            level = functional.interpolate(source, level_size, mode="bilinear", antialias=True)
            level = ((level.float() - 127.5) / 128).contiguous(memory_format=torch.channels_last)
            offsets, probabilities = self._proposal(level)
            hits = (probabilities[:, 1] >= STAGE_THRESHOLDS[0]).nonzero()
            owner, row, column = hits.unbind(1)
            corner = torch.stack([column, row], 1).float() * PROPOSAL_STRIDE
            box = torch.cat([(corner + 1) / scale, (corner + PROPOSAL_CELL) / scale], 1).floor()
            score = probabilities[owner, 1, row, column]
            keep = batched_nms(box, score, owner, 0.5)
            box, score, owner, row, column = (v[keep] for v in (box, score, owner, row, column))
            boxes.append(_shift(box, offsets[owner, :, row, column], inclusive=False))
            scores.append(score)
            owners.append(owner)
            scale *= PYRAMID_FACTOR
        if not boxes:
            return torch.zeros(0, 4, device=self.device), torch.zeros(0, dtype=torch.long, device=self.device)
        all_boxes, all_scores, all_owners = torch.cat(boxes), torch.cat(scores), torch.cat(owners)
        keep = batched_nms(all_boxes, all_scores, all_owners, 0.7)
        return _squared(all_boxes[keep]), all_owners[keep]

    def _refined(self, levels: list[Tensor], boxes: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
        """Second stage: drops most candidates and improves the boxes of the rest."""
        offsets, probabilities = _in_batches(self._refine, levels, boxes, owners, 24)
        keep = probabilities[:, 1] > STAGE_THRESHOLDS[1]
        boxes, owners, offsets, scores = boxes[keep], owners[keep], offsets[keep], probabilities[keep, 1]
        keep = batched_nms(boxes, scores, owners, 0.7)
        return _squared(_shift(boxes[keep], offsets[keep])), owners[keep]

    def _outputs(self, levels: list[Tensor], boxes: Tensor, owners: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Third stage: the final boxes, scores and landmarks."""
        offsets, points, probabilities = _in_batches(self._output, levels, boxes, owners, 48)
        keep = probabilities[:, 1] > STAGE_THRESHOLDS[2]
        boxes, owners, offsets, points = boxes[keep], owners[keep], offsets[keep], points[keep]
        scores = probabilities[keep, 1]
        side = boxes[:, None, 2:] - boxes[:, None, :2] + 1
        landmarks = torch.stack([points[:, :5], points[:, 5:]], 2) * side + boxes[:, None, :2] - 1
        boxes = _shift(boxes, offsets)
        keep = _suppress_contained(boxes, scores, owners, 0.7)
        return boxes[keep], owners[keep], scores[keep], landmarks[keep]


def _network(network: type[nn.Module], filename: str, device: torch.device) -> nn.Module:
    """One of the three networks with the weights that come in facenet-pytorch's package."""
    spec = importlib.util.find_spec("facenet_pytorch")
    assert spec is not None
    assert spec.origin is not None
    weights = torch.load(Path(spec.origin).parent / "data" / filename, map_location="cpu", weights_only=True)
    net = network(pretrained=False)
    net.load_state_dict(weights)
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last).to(device)


def _halvings(pictures: Tensor, smallest: int) -> list[Tensor]:
    """The pictures (N×3×H×W), and each of them halved again and again down to the side given."""
    levels = [pictures]
    while min(levels[-1].shape[2:]) >= 2 * smallest:
        levels.append(functional.avg_pool2d(levels[-1], 2))
    return levels


def _in_batches(
    network: nn.Module, levels: list[Tensor], boxes: Tensor, owners: Tensor, side: int
) -> tuple[Tensor, ...]:
    """Cut every box out of its picture at side×side and run the network on all of them.

    Each is cut from the halving in which it is one to two times that large, where four samples an output pixel come
    close to the average over its area, at a cost that doesn't grow with the box.
    """
    if not len(boxes):
        return tuple(part[:0] for part in network(torch.zeros(1, 3, side, side, device=boxes.device)))
    # The networks count pixels from one: a box's first pixel lies one before its first coordinate.
    from_zero = boxes - boxes.new_tensor([1, 1, 0, 0])
    regions = torch.cat([owners[:, None].to(boxes.dtype), from_zero], 1)
    level_of = (boxes[:, 2] - boxes[:, 0]).div(side).clamp(min=1).log2().floor().clamp(max=len(levels) - 1)
    crops = torch.empty(len(boxes), 3, side, side, device=boxes.device)
    for number, level in enumerate(levels):
        chosen = (level_of == number).nonzero().flatten()
        if len(chosen):
            scale = 0.5**number
            crops[chosen] = roi_align(level, regions[chosen], side, spatial_scale=scale, sampling_ratio=2, aligned=True)
    outputs = [network(part) for part in torch.split(crops, CANDIDATE_BATCH)]
    return tuple(torch.cat(parts) for parts in zip(*outputs, strict=True))


def _shift(boxes: Tensor, offsets: Tensor, inclusive: bool = True) -> Tensor:
    """Move the corners of boxes (M×4) by offsets (M×4) given as shares of their sides.

    ``inclusive`` counts sides as MTCNN's later networks were trained to: the last pixel belongs to the box.
    """
    side = boxes[:, 2:] - boxes[:, :2] + (1 if inclusive else 0)
    return boxes + offsets * side.repeat(1, 2)


def _squared(boxes: Tensor) -> Tensor:
    """Grow the shorter side of each box (M×4) to its longer one, about its centre."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    return torch.cat([centre - half, centre + half], 1)


def _suppress_contained(boxes: Tensor, scores: Tensor, owners: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression by the share of the smaller box that is covered, picture by picture.

    Returns:
        Indices of the boxes to keep, best score first.
    """
    order = scores.argsort(descending=True)
    b, o = boxes[order], owners[order]
    area = (b[:, 2] - b[:, 0] + 1) * (b[:, 3] - b[:, 1] + 1)
    low = torch.maximum(b[:, None, :2], b[None, :, :2])
    high = torch.minimum(b[:, None, 2:], b[None, :, 2:])
    overlap = (high - low + 1).clamp(min=0).prod(2) / torch.minimum(area[:, None], area[None, :])
    clash = ((overlap > threshold) & (o[:, None] == o[None, :])).cpu().numpy()
    kept: list[int] = []
    for candidate in range(len(order)):
        if not clash[candidate, kept].any():
            kept.append(candidate)
    return order[torch.tensor(kept, dtype=torch.long, device=order.device)]


def _faces(
    count: int, boxes: Tensor, owners: Tensor, scores: Tensor, landmarks: Tensor, confidence: float
) -> list[list[Face]]:
    """Records for each of ``count`` frames, without the faces that are too doubtful."""
    faces: list[list[Face]] = [[] for _ in range(count)]
    rows = zip(boxes.tolist(), owners.tolist(), scores.tolist(), landmarks.tolist(), strict=True)
    for box, owner, score, points in rows:
        face = Face(
            box=cast(Box, tuple(box)),
            confidence=score,
            landmarks=cast(tuple[Point, Point, Point, Point, Point], tuple((x, y) for x, y in points)),
        )
        if score >= confidence:
            faces[owner].append(face)
    for found in faces:
        found.sort(key=lambda face: face.size, reverse=True)
    return faces
