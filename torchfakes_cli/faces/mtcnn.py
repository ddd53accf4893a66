"""MTCNN face detector for batches of frames: a cascade of three networks that refine and filter face candidates.

The networks use facenet-pytorch's weights with a driver of our own. It accepts frames of mixed sizes, including frames
without faces or too small for one, and processes all candidates of a batch together. Method: Zhang et al., "Joint Face
Detection and Alignment using Multi-task Cascaded Convolutional Networks" (2016), https://arxiv.org/abs/1604.02878.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchfakes_cli.faces.networks import CandidateNetwork, ProposalNetwork, load_weights
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.faces.pyramid import (
    PROPOSAL_CELL,
    PROPOSAL_STRIDE,
    ImagePyramid,
    PyramidOnCpu,
    PyramidOnDevice,
    PyramidPacking,
    pack_pyramid,
)
from torchfakes_cli.records import Box, Face, Point

#: Minimum score of a candidate in each of the three stages: facenet-pytorch's defaults.
STAGE_THRESHOLDS = (0.6, 0.7, 0.7)
#: Overlap with a better candidate above which the second and the third stage drop a candidate.
STAGE_OVERLAP = 0.7
#: Enlargement of the known box of a face before the last two stages search it.
GROWN = 1.1


class Candidates(NamedTuple):
    """Face candidates of a batch of pictures.

    Attributes:
        owners: index of each candidate's picture, M.
        boxes: M×4 in pixels, in MTCNN's one-based coordinates with inclusive ends.
    """

    owners: Tensor
    boxes: Tensor


class FaceDetector:
    """Detects faces and their five landmarks.

    Args:
        config: minimum face size and confidence.
        device: device of the networks.
        dtype: data type of the computation; None for the fastest on the device.
        networks: replacements of the three networks, such as exported files; None for facenet-pytorch's.

    Raises:
        ModelNotFoundError: the networks' weights are missing.
    """

    def __init__(
        self,
        config: FaceConfig | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        networks: tuple[ProposalNetwork, CandidateNetwork, CandidateNetwork] | None = None,
    ) -> None:
        self.config = config or FaceConfig()
        self.device = torch.device(device)
        dtype = dtype or _fast_dtype(self.device)
        self._proposal, self._refine, self._output = networks or (
            ProposalNetwork(load_weights("pnet"), self.device, dtype),
            CandidateNetwork(load_weights("rnet"), self.device, dtype),
            CandidateNetwork(load_weights("onet"), self.device, dtype),
        )

    def detect(
        self, frames: Sequence[NDArray[np.uint8]], config: FaceConfig | None = None, *, any_size: bool = False
    ) -> list[list[Face]]:
        """Detect the faces in each frame.

        Args:
            frames: H×W×3 uint8 RGB each; sizes may differ.
            config: replaces the detector's own configuration for this call.
            any_size: also return faces below the minimum size that the search happens to find.

        Returns:
            The faces of each frame, largest first; empty for a frame without faces.
        """
        config = config or self.config
        found: list[list[Face]] = [[] for _ in frames]
        for indices in _by_size(frames):
            for index, faces in zip(indices, self._search([frames[i] for i in indices], config), strict=True):
                found[index] = [face for face in faces if any_size or face.size >= config.smallest]
        return found

    @torch.inference_mode()
    def refine(self, frames: Sequence[NDArray[np.uint8]], near: Sequence[Sequence[Box]]) -> list[list[Face]]:
        """Detect faces close to expected positions, without searching whole frames.

        Args:
            frames: H×W×3 uint8 RGB each; sizes may differ.
            near: for each frame, the boxes of faces shortly before or after it.

        Returns:
            The detected faces of each frame, of any size, largest first.
        """
        found: list[list[Face]] = [[] for _ in frames]
        wanted = [index for index, boxes in enumerate(near) if boxes]
        for group in _by_size([frames[index] for index in wanted]):
            indices = [wanted[index] for index in group]
            candidates = _expected([near[index] for index in indices], self.device)
            refined = self._judged(self._pyramid([frames[i] for i in indices]), candidates, self.config.confidence)
            for index, faces in zip(indices, refined, strict=True):
                found[index] = faces
        return found

    @torch.inference_mode()
    def _search(self, frames: Sequence[NDArray[np.uint8]], config: FaceConfig) -> list[list[Face]]:
        """Run all three stages on frames of one size."""
        height, width = frames[0].shape[:2]
        packing = pack_pyramid(width, height, config.min_face)
        if not packing.levels:
            return [[] for _ in frames]
        pyramid = self._pyramid(frames)
        # No suppression across levels: their windows differ too much in size to overlap by 70 %.
        parts = [
            self._windows(canvas, packing, number, (width, height))
            for number, canvas in enumerate(pyramid.canvases(packing))
        ]
        candidates = Candidates(torch.cat([part.owners for part in parts]), torch.cat([part.boxes for part in parts]))
        return self._judged(pyramid, candidates, config.confidence)

    def _pyramid(self, frames: Sequence[NDArray[np.uint8]]) -> ImagePyramid:
        on_cpu = self.device.type == "cpu"
        return PyramidOnCpu(frames) if on_cpu else PyramidOnDevice(frames, self.device)

    def _windows(self, canvas: Tensor, packing: PyramidPacking, number: int, size: tuple[int, int]) -> Candidates:
        """First stage: find the windows on a canvas that score higher than all their neighbors."""
        logits, offsets = self._proposal(canvas)
        table, corners, scales = _tables(packing, number, size, self.device)
        owners, rows, columns = _peaks(logits.masked_fill_(table < 0, -torch.inf))
        level = table[rows, columns].long()
        first = (torch.stack([columns, rows], 1) - corners[level]) * PROPOSAL_STRIDE
        boxes = (torch.cat([first + 1, first + PROPOSAL_CELL], 1) * scales[level]).floor()
        return Candidates(owners, _squared(_shifted(boxes, offsets[owners, rows, columns].float(), inclusive=False)))

    def _judged(self, pyramid: ImagePyramid, candidates: Candidates, confidence: float) -> list[list[Face]]:
        """Run the last two stages; return the faces of each picture, largest first."""
        owners, boxes, outputs = _accepted(self._refine, pyramid, candidates, STAGE_THRESHOLDS[1])
        kept = non_maximum_suppression(owners, boxes, STAGE_OVERLAP)
        candidates = Candidates(owners[kept], _squared(_shifted(boxes, outputs[:, 1:5])[kept]))
        owners, boxes, outputs = _accepted(self._output, pyramid, candidates, STAGE_THRESHOLDS[2])
        side = boxes[:, 2:] - boxes[:, :2] + 1
        points = torch.stack([outputs[:, 5:10], outputs[:, 10:15]], 2) * side[:, None] + boxes[:, None, :2] - 1
        boxes = _shifted(boxes, outputs[:, 1:5])
        kept = non_maximum_suppression(owners, boxes, STAGE_OVERLAP, contained=True)
        kept = kept[outputs[kept, 0] >= confidence]
        faces: list[list[Face]] = [[] for _ in range(pyramid.count)]
        rows = (owners[kept], boxes[kept], outputs[kept, 0], points[kept])
        for owner, box, score, landmarks in zip(*(part.tolist() for part in rows), strict=True):
            five = cast(tuple[Point, Point, Point, Point, Point], tuple(map(tuple, landmarks)))
            faces[owner].append(Face(cast(Box, tuple(box)), score, five))
        return [sorted(found, key=lambda face: face.size, reverse=True) for found in faces]


def _fast_dtype(device: torch.device) -> torch.dtype:
    """Return half precision if the hardware supports it: it moves boxes by less than a hundredth of their side."""
    if device.type == "cuda":
        return torch.float16 if torch.cuda.get_device_capability(device) >= (7, 0) else torch.float32
    has_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    capabilities = torch.cpu.get_capabilities() if has_onednn and hasattr(torch.cpu, "get_capabilities") else {}
    fast = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if fast else torch.float32


@lru_cache(maxsize=16)
def _tables(
    packing: PyramidPacking, canvas: int, size: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Lookup tables that map the windows of a canvas to boxes in pictures of a (width, height).

    Returns:
        The level of each window, or −1 (h×w); the first window (column, row) of each level; and the scale from level
        pixels to picture pixels along (x, y, x, y) of each level.
    """
    windows = torch.from_numpy(packing.windows(canvas)).to(device)
    corners = [[level.left // PROPOSAL_STRIDE, level.top // PROPOSAL_STRIDE] for level in packing.levels]
    scales = [[size[0] / level.width, size[1] / level.height] * 2 for level in packing.levels]
    return windows, torch.tensor(corners, device=device), torch.tensor(scales, device=device)


def _by_size(frames: Sequence[NDArray[np.uint8]]) -> list[list[int]]:
    """Group the indices of the frames by frame size."""
    indices: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, frame in enumerate(frames):
        indices[frame.shape].append(index)
    return list(indices.values())


def _expected(near: Sequence[Sequence[Box]], device: torch.device) -> Candidates:
    """Build candidates from the boxes of expected faces."""
    owners = [owner for owner, boxes in enumerate(near) for _ in boxes]
    square = _squared(torch.tensor([box for boxes in near for box in boxes], dtype=torch.float32, device=device))
    center, half = (square[:, :2] + square[:, 2:]) / 2, (square[:, 2:] - square[:, :2]) * GROWN / 2
    return Candidates(torch.tensor(owners, device=device), torch.cat([center - half, center + half], 1))


def _peaks(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find windows (N×h×w) above the threshold that score at least as high as each of their eight neighbors.

    facenet-pytorch suppresses the same neighbors, whose windows overlap by half, but keeps windows whose better
    neighbor is suppressed itself.

    Returns:
        Picture, row and column of each window.
    """
    height, width = logits.shape[1:]
    threshold = float(np.log(STAGE_THRESHOLDS[0] / (1 - STAGE_THRESHOLDS[0])))
    # Few windows are above the threshold: it is faster to compare only these with their neighbors.
    owners, rows, columns = (logits >= threshold).nonzero(as_tuple=True)
    around = torch.arange(9, device=logits.device)
    near_rows = (rows[:, None] + around // 3 - 1).clamp(0, height - 1)
    near_columns = (columns[:, None] + around % 3 - 1).clamp(0, width - 1)
    peaks = logits[owners, rows, columns] >= logits[owners[:, None], near_rows, near_columns].amax(1)
    return owners[peaks], rows[peaks], columns[peaks]


def _accepted(
    network: CandidateNetwork, pyramid: ImagePyramid, candidates: Candidates, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a network on candidates.

    Returns:
        Pictures, boxes and outputs of those above the threshold, best first.
    """
    owners, boxes = candidates
    # From MTCNN's one-based boxes with inclusive ends to zero-based boxes with exclusive ends.
    outputs = network(pyramid.cut(boxes - boxes.new_tensor([1, 1, 0, 0]), owners, network.side))
    best = outputs[:, 0].argsort(descending=True, stable=True)
    best = best[outputs[best, 0] > threshold]
    return owners[best], boxes[best], outputs[best]


def _shifted(boxes: Tensor, offsets: Tensor, *, inclusive: bool = True) -> Tensor:
    """Move the corners of boxes (…×4) by offsets (…×4), which are shares of the box sides.

    ``inclusive`` measures sides as MTCNN's second and third networks were trained: the last pixel belongs to the box.
    """
    side = boxes[..., 2:] - boxes[..., :2] + (1 if inclusive else 0)
    return boxes + offsets * torch.cat([side, side], -1)


def _squared(boxes: Tensor) -> Tensor:
    """Extend the shorter side of each box (…×4) to the longer one, about the box's center."""
    center = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = (boxes[..., 2:] - boxes[..., :2]).amax(-1, keepdim=True) / 2
    return torch.cat([center - half, center + half], -1)


def non_maximum_suppression(owners: Tensor, boxes: Tensor, threshold: float, *, contained: bool = False) -> Tensor:
    """Drop every candidate that overlaps a better candidate of its picture that is kept.

    Args:
        owners: picture of each candidate, M.
        boxes: M×4, best first.
        threshold: overlap above which the worse candidate is dropped.
        contained: divide the intersection by the smaller area instead of by the union.

    Returns:
        Indices of the kept candidates.
    """
    extra = 1 if contained else 0  # facenet-pytorch includes the last pixel only in this variant
    pictures = owners.cpu().numpy()
    left, top, right, bottom = boxes.cpu().numpy().T
    area = (right - left + extra) * (bottom - top + extra)
    kept: list[int] = []
    for picture in np.unique(pictures):
        rest = np.flatnonzero(pictures == picture)
        while len(rest):
            best, rest = rest[0], rest[1:]
            kept.append(best)
            width = np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest]) + extra
            height = np.minimum(bottom[best], bottom[rest]) - np.maximum(top[best], top[rest]) + extra
            shared = width.clip(0) * height.clip(0)
            whole = np.minimum(area[best], area[rest]) if contained else area[best] + area[rest] - shared
            rest = rest[shared <= threshold * whole]
    return torch.tensor(kept, dtype=torch.long, device=boxes.device)
