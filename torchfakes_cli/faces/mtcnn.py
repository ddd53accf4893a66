"""MTCNN face detector for batches of frames: a cascade of three networks that refine and filter face candidates.

The networks use facenet-pytorch's weights with a driver of our own. It accepts frames of mixed sizes, including frames
without faces or too small for one, and processes all candidates of a batch together. Method: Zhang et al., "Joint Face
Detection and Alignment using Multi-task Cascaded Convolutional Networks" (2016), https://arxiv.org/abs/1604.02878.

On a graphics card the stages run without synchronization: each passes on a fixed number of candidates and flags an
overflow, which is read together with the result. After an overflow the batch is repeated with higher limits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

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
#: Initial maximum number of candidates per picture after each stage, on a graphics card.
INITIAL_LIMITS = (512, 128, 64)
#: Rounds of non-maximum suppression on a graphics card, where a convergence check would force a synchronization. The
#: result is exact for candidates whose chain of overlapping better candidates is shorter than this.
ROUNDS_ON_DEVICE = 16


class Candidates(NamedTuple):
    """Face candidates of a batch of pictures; one with fewer than K candidates is padded with candidates of score 0.

    Attributes:
        boxes: N×K×4 in pixels, in MTCNN's one-based coordinates with inclusive ends.
        scores: N×K, best first within a picture; 0 for padding.
    """

    boxes: Tensor
    scores: Tensor


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
            pyramid = self._pyramid([frames[index] for index in indices])
            refined = self._judged(pyramid, lambda _: candidates, self.config.confidence)  # noqa: B023 - called at once
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
        return self._judged(
            pyramid, lambda limits: self._propose(pyramid, packing, (width, height), limits), config.confidence
        )

    def _judged(
        self, pyramid: ImagePyramid, candidates: Callable[[_CandidateLimits], Candidates], confidence: float
    ) -> list[list[Face]]:
        """Run the last two stages, repeating them with higher limits after an overflow."""
        limits = _CandidateLimits(self.device)
        while True:
            rows = self._outputs(pyramid, self._refined(pyramid, candidates(limits), limits), limits).cpu()
            if not limits.exceeded():
                return _faces(rows, confidence)

    def _pyramid(self, frames: Sequence[NDArray[np.uint8]]) -> ImagePyramid:
        on_cpu = self.device.type == "cpu"
        return PyramidOnCpu(frames) if on_cpu else PyramidOnDevice(frames, self.device)

    def _propose(
        self, pyramid: ImagePyramid, packing: PyramidPacking, size: tuple[int, int], limits: _CandidateLimits
    ) -> Candidates:
        """First stage: proposes face windows in all levels of the pyramid."""
        canvases = enumerate(pyramid.canvases(packing))
        found = [self._windows(canvas, packing, number, size, limits) for number, canvas in canvases]
        # No suppression across levels: their windows differ too much in size to overlap by 70 %.
        scores, indices = limits.best(torch.cat([part.scores for part in found], 1), 0)
        return Candidates(_squared(_at(torch.cat([part.boxes for part in found], 1), indices)), scores)

    def _windows(
        self, canvas: Tensor, packing: PyramidPacking, number: int, size: tuple[int, int], limits: _CandidateLimits
    ) -> Candidates:
        """Find the candidates on one canvas: windows with a higher score than all their neighbors."""
        logits, offsets = self._proposal(canvas)
        table, corners, scales = _tables(packing, number, size, self.device)
        logits.masked_fill_(table < 0, -torch.inf)
        scores, indices = _peaks(logits, limits)
        level = table.flatten()[indices].long()
        row, column = indices // logits.shape[2], indices % logits.shape[2]
        first = (torch.stack([column, row], 2) - corners[level]) * PROPOSAL_STRIDE
        boxes = (torch.cat([first + 1, first + PROPOSAL_CELL], 2) * scales[level]).floor()
        pictures = torch.arange(len(canvas), device=self.device)[:, None]
        return Candidates(_shifted(boxes, offsets[pictures, row, column].float(), inclusive=False), scores)

    def _refined(self, pyramid: ImagePyramid, candidates: Candidates, limits: _CandidateLimits) -> Candidates:
        """Second stage: drops most candidates and refines the boxes of the rest."""
        judged = _network_outputs(self._refine, pyramid, candidates)
        scores, indices = limits.best(_above(judged[..., 0], STAGE_THRESHOLDS[1]), 1)
        boxes = _at(candidates.boxes, indices)
        kept = non_maximum_suppression(Candidates(boxes, scores), STAGE_OVERLAP)
        return Candidates(_squared(_shifted(boxes, _at(judged[..., 1:5], indices))), kept)

    def _outputs(self, pyramid: ImagePyramid, candidates: Candidates, limits: _CandidateLimits) -> Tensor:
        """Third stage: returns the final boxes, scores (0 for no face) and landmarks, N×K×15."""
        judged = _network_outputs(self._output, pyramid, candidates)
        scores, indices = limits.best(_above(judged[..., 0], STAGE_THRESHOLDS[2]), 2)
        boxes, judged = _at(candidates.boxes, indices), _at(judged, indices)
        side = boxes[..., 2:] - boxes[..., :2] + 1
        points = torch.stack([judged[..., 5:10], judged[..., 10:15]], 3)
        points = points * side[:, :, None] + boxes[:, :, None, :2] - 1
        boxes = _shifted(boxes, judged[..., 1:5])
        scores = non_maximum_suppression(Candidates(boxes, scores), STAGE_OVERLAP, contained=True)
        return torch.cat([boxes, scores[..., None], points.flatten(2)], 2)


class _CandidateLimits:
    """Maximum number of candidates per picture that each stage passes on; unlimited on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.limited = device.type != "cpu"
        self._limits: tuple[int, ...] = INITIAL_LIMITS
        self._exceeded = torch.zeros((), dtype=torch.bool, device=device)

    def best(self, scores: Tensor, stage: int) -> tuple[Tensor, Tensor]:
        """Return scores and indices (N×k) of the candidates with a positive score (N×K), best first."""
        if self.limited:
            count = min(self._limits[stage], scores.shape[1])
            self._exceeded |= ((scores > 0).sum(1) > self._limits[stage]).any()
        else:
            count = int((scores > 0).sum(1).max())
        best: tuple[Tensor, Tensor] = torch.topk(scores, count, dim=1)
        return best

    def exceeded(self) -> bool:
        """Return whether a picture exceeded a limit, and raises the limits if so."""
        if not self.limited or not bool(self._exceeded):
            return False
        self._limits = tuple(4 * size for size in self._limits)
        self._exceeded.zero_()
        return True


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
    boxes = torch.zeros(len(near), max(map(len, near)), 4)
    scores = torch.zeros(boxes.shape[:2])
    for number, known in enumerate(near):
        square = _squared(torch.tensor(known, dtype=torch.float32))
        center, side = (square[:, :2] + square[:, 2:]) / 2, square[:, 2:] - square[:, :2]
        boxes[number, : len(known)] = torch.cat([center - side * GROWN / 2, center + side * GROWN / 2], 1)
        scores[number, : len(known)] = 1
    return Candidates(boxes.to(device), scores.to(device))


def _above(scores: Tensor, threshold: float) -> Tensor:
    """Set scores up to the threshold to 0."""
    return torch.where(scores > threshold, scores, 0)


def _peaks(logits: Tensor, limits: _CandidateLimits) -> tuple[Tensor, Tensor]:
    """Find windows above the threshold that score at least as high as each of their eight neighbors.

    facenet-pytorch suppresses the same neighbors, whose windows overlap by half, but keeps windows whose better
    neighbor is suppressed itself.

    Args:
        logits: N×h×w.
        limits: maximum number of windows per picture.

    Returns:
        Scores (0 for padding) and row-major window indices, N×K.
    """
    count, height, width = logits.shape
    threshold = float(np.log(STAGE_THRESHOLDS[0] / (1 - STAGE_THRESHOLDS[0])))
    if limits.limited:
        highest = functional.max_pool2d(logits[:, None], 3, 1, 1)[:, 0]
        peaks = (logits >= highest) & (logits >= threshold)
        return limits.best(torch.where(peaks, logits.sigmoid(), 0).flatten(1), 0)
    # Few windows are above the threshold: on the CPU it is faster to compare only these with their neighbors.
    values = logits.numpy()
    owner, row, column = np.unravel_index(np.flatnonzero(values >= threshold), values.shape)
    around = np.arange(9)
    rows = np.clip(row[:, None] + around // 3 - 1, 0, height - 1)
    columns = np.clip(column[:, None] + around % 3 - 1, 0, width - 1)
    peaks = values[owner, row, column] >= values[owner[:, None], rows, columns].max(1)
    owner, row, column = owner[peaks], row[peaks], column[peaks]
    counts = np.bincount(owner, minlength=count)
    slot = np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]
    indices = np.zeros((count, counts.max()), np.int64)
    scores = np.zeros(indices.shape, np.float32)
    indices[owner, slot] = row * width + column
    scores[owner, slot] = 1 / (1 + np.exp(-values[owner, row, column]))
    return torch.from_numpy(scores), torch.from_numpy(indices)


def _network_outputs(network: CandidateNetwork, pyramid: ImagePyramid, candidates: Candidates) -> Tensor:
    """Run a network on all candidates and returns its outputs, N×K×C; 0 for padding."""
    boxes = _zero_based(candidates.boxes)
    count, most = candidates.scores.shape
    there = candidates.scores > 0
    if boxes.device.type != "cpu":
        owners = torch.arange(count, device=boxes.device).repeat_interleave(most)
        crops = pyramid.cut(boxes.flatten(0, 1), owners, network.side)
        return network(crops).view(count, most, -1) * there[..., None]
    owners, slots = there.nonzero(as_tuple=True)
    outputs = network(pyramid.cut(boxes[owners, slots], owners, network.side))
    judged = outputs.new_zeros(count, most, outputs.shape[1])
    judged[owners, slots] = outputs
    return judged


def _faces(rows: Tensor, confidence: float) -> list[list[Face]]:
    """Convert boxes, scores and landmarks (N×K×15) to records, without faces below the confidence."""
    faces: list[list[Face]] = [[] for _ in rows]
    owners, slots = (rows[..., 4] >= confidence).nonzero(as_tuple=True)
    for owner, row in zip(owners.tolist(), rows[owners, slots].tolist(), strict=True):
        points = tuple((row[5 + 2 * n], row[6 + 2 * n]) for n in range(5))
        faces[owner].append(
            Face(
                box=cast(Box, tuple(row[:4])),
                confidence=row[4],
                landmarks=cast(tuple[Point, Point, Point, Point, Point], points),
            )
        )
    for found in faces:
        found.sort(key=lambda face: face.size, reverse=True)
    return faces


def _at(values: Tensor, indices: Tensor) -> Tensor:
    """Gather the values (N×K×C) of the candidates with the given indices (N×k)."""
    return values.gather(1, indices[..., None].expand(-1, -1, values.shape[2]))


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


def _zero_based(boxes: Tensor) -> Tensor:
    """Convert MTCNN's boxes, one-based with inclusive ends, to zero-based boxes with exclusive ends."""
    return boxes - boxes.new_tensor([1, 1, 0, 0])


def non_maximum_suppression(candidates: Candidates, threshold: float, *, contained: bool = False) -> Tensor:
    """Non-maximum suppression: drops every candidate that overlaps a better candidate that is kept.

    Args:
        candidates: candidates, best first.
        threshold: overlap above which the worse candidate is dropped.
        contained: divide the intersection by the smaller area instead of by the union.

    Returns:
        Scores (N×K), 0 for dropped candidates.
    """
    boxes, scores = candidates
    extra = 1 if contained else 0  # facenet-pytorch includes the last pixel only in this variant
    left, top, right, bottom = boxes.unbind(2)
    area = (right - left + extra) * (bottom - top + extra)
    width = torch.minimum(right[:, :, None], right[:, None]) - torch.maximum(left[:, :, None], left[:, None])
    height = torch.minimum(bottom[:, :, None], bottom[:, None]) - torch.maximum(top[:, :, None], top[:, None])
    shared = (width + extra).clamp(min=0) * (height + extra).clamp(min=0)
    ours, theirs = area[:, :, None], area[:, None]
    whole = torch.minimum(ours, theirs) if contained else ours + theirs - shared
    clash = (shared > threshold * whole).tril(-1)  # only with better candidates, which come first
    there = scores > 0
    kept = there
    for _ in range(scores.shape[1] if boxes.device.type == "cpu" else ROUNDS_ON_DEVICE):
        before, kept = kept, there & ~(clash & kept[:, None]).any(2)
        if boxes.device.type == "cpu" and torch.equal(before, kept):
            break
    return torch.where(kept, scores, 0)
