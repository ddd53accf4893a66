"""MTCNN face detector for batches of frames: a cascade of three networks that refine and filter face candidates.

The networks use facenet-pytorch's weights with a driver of our own. It accepts frames of mixed sizes, including frames
without faces or too small for one, and processes all candidates of a batch together. Method: Zhang et al., "Joint Face
Detection and Alignment using Multi-task Cascaded Convolutional Networks" (2016), https://arxiv.org/abs/1604.02878.

On a graphics card the stages run without synchronisation: each passes on a fixed number of candidates and flags an
overflow, which is read together with the result. After an overflow the batch is repeated with higher limits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from torchfakes_cli.faces.candidates import Candidates, at, chosen, from_zero, shifted, squared, suppressed
from torchfakes_cli.faces.layout import PROPOSAL_CELL, PROPOSAL_STRIDE, Layout, lay_out
from torchfakes_cli.faces.networks import CandidateNetwork, ProposalNetwork, load_weights
from torchfakes_cli.faces.options import FaceConfig
from torchfakes_cli.faces.pictures import Pictures, PicturesOnCpu, PicturesOnDevice
from torchfakes_cli.records import Box, Face, Point

#: Minimum score of a candidate in each of the three stages: facenet-pytorch's defaults.
STAGE_THRESHOLDS = (0.6, 0.7, 0.7)
#: Overlap with a better candidate above which the second and the third stage drop a candidate.
STAGE_OVERLAP = 0.7
#: Factor by which the known box of a face grows before the last two stages search it.
GROWN = 1.1
#: Initial maximum number of candidates per picture after each stage, on a graphics card.
INITIAL_LIMITS = (512, 128, 64)


class FaceDetector:
    """Detects faces and their five landmarks.

    Args:
        config: minimum face size and confidence.
        device: device of the networks.
        dtype: data type of the computation; None for the fastest on the device.

    Raises:
        ModelNotFoundError: the networks' weights are missing.
    """

    def __init__(
        self,
        config: FaceConfig | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        self.config = config or FaceConfig()
        self.device = torch.device(device)
        dtype = dtype or _fast_dtype(self.device)
        self._proposal = ProposalNetwork(load_weights("pnet"), self.device, dtype)
        self._refine = CandidateNetwork(load_weights("rnet"), self.device, dtype)
        self._output = CandidateNetwork(load_weights("onet"), self.device, dtype)

    def detect(
        self, frames: Sequence[NDArray[np.uint8]], config: FaceConfig | None = None, *, any_size: bool = False
    ) -> list[list[Face]]:
        """Detects the faces in each frame.

        Args:
            frames: H×W×3 uint8 RGB each; sizes may differ.
            config: replaces the detector's own configuration for this call.
            any_size: also return faces below the minimum size that the search happens to find.

        Returns:
            The faces of each frame, largest first; empty for a frame without faces.
        """
        config = config or self.config
        found: list[list[Face]] = [[] for _ in frames]
        for places in _by_size(frames):
            for place, faces in zip(places, self._search([frames[p] for p in places], config), strict=True):
                found[place] = [face for face in faces if any_size or face.size >= config.smallest]
        return found

    def refine(
        self, frames: Sequence[NDArray[np.uint8]], near: Sequence[Sequence[Box]], config: FaceConfig | None = None
    ) -> list[list[Face]]:
        """Detects faces close to expected positions, without searching whole frames.

        Args:
            frames: H×W×3 uint8 RGB each; sizes may differ.
            near: for each frame, the boxes of faces shortly before or after it.
            config: replaces the detector's own configuration for this call.

        Returns:
            The detected faces of each frame, of any size, largest first.
        """
        config = config or self.config
        found: list[list[Face]] = [[] for _ in frames]
        wanted = [place for place, boxes in enumerate(near) if boxes]
        for places in _by_size([frames[place] for place in wanted]):
            chosen_places = [wanted[place] for place in places]
            boxes = [near[place] for place in chosen_places]
            equal = self._refine_equal([frames[place] for place in chosen_places], boxes, config)
            for place, faces in zip(chosen_places, equal, strict=True):
                found[place] = faces
        return found

    @torch.inference_mode()
    def _search(self, frames: Sequence[NDArray[np.uint8]], config: FaceConfig) -> list[list[Face]]:
        """Runs all three stages on frames of one size."""
        height, width = frames[0].shape[:2]
        layout = lay_out(width, height, config.min_face)
        if not layout.levels:
            return [[] for _ in frames]
        pictures = self._pictures(frames)
        return self._judged(
            pictures, lambda limits: self._propose(pictures, layout, (width, height), limits), config.confidence
        )

    @torch.inference_mode()
    def _refine_equal(
        self, frames: Sequence[NDArray[np.uint8]], near: Sequence[Sequence[Box]], config: FaceConfig
    ) -> list[list[Face]]:
        """Runs the last two stages on frames of one size with at least one box each."""
        candidates = _expected(near, self.device)
        return self._judged(self._pictures(frames), lambda _: candidates, config.confidence)

    def _judged(
        self, pictures: Pictures, candidates: Callable[[_CandidateLimits], Candidates], confidence: float
    ) -> list[list[Face]]:
        """Runs the last two stages, repeating them with higher limits after an overflow."""
        limits = _CandidateLimits(self.device)
        while True:
            rows = self._outputs(pictures, self._refined(pictures, candidates(limits), limits), limits).cpu()
            if not limits.exceeded():
                return _faces(rows, confidence)

    def _pictures(self, frames: Sequence[NDArray[np.uint8]]) -> Pictures:
        on_cpu = self.device.type == "cpu"
        return PicturesOnCpu(frames) if on_cpu else PicturesOnDevice(frames, self.device)

    def _propose(
        self, pictures: Pictures, layout: Layout, size: tuple[int, int], limits: _CandidateLimits
    ) -> Candidates:
        """First stage: proposes face windows in all levels of the pyramid."""
        canvases = enumerate(pictures.canvases(layout))
        found = [self._windows(canvas, layout, number, size, limits) for number, canvas in canvases]
        # No suppression across levels: their windows differ too much in size to overlap by 70 %.
        scores, places = limits.best(torch.cat([part.scores for part in found], 1), 0)
        return Candidates(squared(at(torch.cat([part.boxes for part in found], 1), places)), scores)

    def _windows(
        self, canvas: Tensor, layout: Layout, number: int, size: tuple[int, int], limits: _CandidateLimits
    ) -> Candidates:
        """Finds the candidates on one canvas: windows with a higher score than all their neighbours."""
        logits, offsets = self._proposal(canvas)
        table, corners, scales = _tables(layout, number, size, self.device)
        logits.masked_fill_(table < 0, -torch.inf)
        scores, places = _peaks(logits, limits)
        level = table.flatten()[places].long()
        row, column = places // logits.shape[2], places % logits.shape[2]
        first = (torch.stack([column, row], 2) - corners[level]) * PROPOSAL_STRIDE
        boxes = (torch.cat([first + 1, first + PROPOSAL_CELL], 2) * scales[level]).floor()
        pictures = torch.arange(len(canvas), device=self.device)[:, None]
        return Candidates(shifted(boxes, offsets[pictures, row, column].float(), inclusive=False), scores)

    def _refined(self, pictures: Pictures, candidates: Candidates, limits: _CandidateLimits) -> Candidates:
        """Second stage: drops most candidates and refines the boxes of the rest."""
        judged = _network_outputs(self._refine, pictures, candidates)
        scores, places = limits.best(_above(judged[..., 0], STAGE_THRESHOLDS[1]), 1)
        boxes = at(candidates.boxes, places)
        kept = suppressed(Candidates(boxes, scores), STAGE_OVERLAP)
        return Candidates(squared(shifted(boxes, at(judged[..., 1:5], places))), kept)

    def _outputs(self, pictures: Pictures, candidates: Candidates, limits: _CandidateLimits) -> Tensor:
        """Third stage: returns the final boxes, scores (0 for no face) and landmarks, N×K×15."""
        judged = _network_outputs(self._output, pictures, candidates)
        scores, places = limits.best(_above(judged[..., 0], STAGE_THRESHOLDS[2]), 2)
        boxes, judged = at(candidates.boxes, places), at(judged, places)
        side = boxes[..., 2:] - boxes[..., :2] + 1
        points = torch.stack([judged[..., 5:10], judged[..., 10:15]], 3)
        points = points * side[:, :, None] + boxes[:, :, None, :2] - 1
        boxes = shifted(boxes, judged[..., 1:5])
        scores = suppressed(Candidates(boxes, scores), STAGE_OVERLAP, contained=True)
        return torch.cat([boxes, scores[..., None], points.flatten(2)], 2)


class _CandidateLimits:
    """Maximum number of candidates per picture that each stage passes on; unlimited on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.limited = device.type != "cpu"
        self._limits: tuple[int, ...] = INITIAL_LIMITS
        self._exceeded = torch.zeros((), dtype=torch.bool, device=device)

    def best(self, scores: Tensor, stage: int) -> tuple[Tensor, Tensor]:
        """Returns scores and indices (N×k) of the candidates with a positive score (N×K), best first."""
        if not self.limited:
            return chosen(scores, None)
        self._exceeded |= ((scores > 0).sum(1) > self._limits[stage]).any()
        return chosen(scores, self._limits[stage])

    def exceeded(self) -> bool:
        """Returns whether a picture exceeded a limit, and raises the limits if so."""
        if not self.limited or not bool(self._exceeded):
            return False
        self._limits = tuple(4 * size for size in self._limits)
        self._exceeded.zero_()
        return True


def _fast_dtype(device: torch.device) -> torch.dtype:
    """Returns half precision if the hardware supports it: it moves boxes by less than a hundredth of their side."""
    if device.type == "cuda":
        return torch.float16 if torch.cuda.get_device_capability(device) >= (7, 0) else torch.float32
    has_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    capabilities = torch.cpu.get_capabilities() if has_onednn and hasattr(torch.cpu, "get_capabilities") else {}
    fast = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if fast else torch.float32


@lru_cache(maxsize=16)
def _tables(layout: Layout, canvas: int, size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Lookup tables that map the windows of a canvas to boxes in pictures of a (width, height).

    Returns:
        The level of each window, or −1 (h×w); the first window (column, row) of each level; and the scale from level
        pixels to picture pixels along (x, y, x, y) of each level.
    """
    windows = torch.from_numpy(layout.windows(canvas)).to(device)
    corners = [[level.left // PROPOSAL_STRIDE, level.top // PROPOSAL_STRIDE] for level in layout.levels]
    scales = [[size[0] / level.width, size[1] / level.height] * 2 for level in layout.levels]
    return windows, torch.tensor(corners, device=device), torch.tensor(scales, device=device)


def _by_size(frames: Sequence[NDArray[np.uint8]]) -> list[list[int]]:
    """Groups the indices of the frames by frame size."""
    places: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, frame in enumerate(frames):
        places[frame.shape].append(place)
    return list(places.values())


def _expected(near: Sequence[Sequence[Box]], device: torch.device) -> Candidates:
    """Builds candidates from the boxes of expected faces."""
    boxes = torch.zeros(len(near), max(map(len, near)), 4)
    scores = torch.zeros(boxes.shape[:2])
    for number, known in enumerate(near):
        square = squared(torch.tensor(known, dtype=torch.float32))
        centre, side = (square[:, :2] + square[:, 2:]) / 2, square[:, 2:] - square[:, :2]
        boxes[number, : len(known)] = torch.cat([centre - side * GROWN / 2, centre + side * GROWN / 2], 1)
        scores[number, : len(known)] = 1
    return Candidates(boxes.to(device), scores.to(device))


def _above(scores: Tensor, threshold: float) -> Tensor:
    """Sets scores up to the threshold to 0."""
    return torch.where(scores > threshold, scores, 0)


def _peaks(logits: Tensor, limits: _CandidateLimits) -> tuple[Tensor, Tensor]:
    """Finds windows above the threshold that score at least as high as each of their eight neighbours.

    facenet-pytorch suppresses the same neighbours, whose windows overlap by half, but keeps windows whose better
    neighbour is suppressed itself.

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
    # Few windows are above the threshold: on the CPU it is faster to compare only these with their neighbours.
    values = logits.numpy()
    owner, row, column = np.unravel_index(np.flatnonzero(values >= threshold), values.shape)
    around = np.arange(9)
    rows = np.clip(row[:, None] + around // 3 - 1, 0, height - 1)
    columns = np.clip(column[:, None] + around % 3 - 1, 0, width - 1)
    peaks = values[owner, row, column] >= values[owner[:, None], rows, columns].max(1)
    owner, row, column = owner[peaks], row[peaks], column[peaks]
    counts = np.bincount(owner, minlength=count)
    slot = np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]
    places = np.zeros((count, counts.max()), np.int64)
    scores = np.zeros(places.shape, np.float32)
    places[owner, slot] = row * width + column
    scores[owner, slot] = 1 / (1 + np.exp(-values[owner, row, column]))
    return torch.from_numpy(scores), torch.from_numpy(places)


def _network_outputs(network: CandidateNetwork, pictures: Pictures, candidates: Candidates) -> Tensor:
    """Runs a network on all candidates and returns its outputs, N×K×C; 0 for padding."""
    boxes = from_zero(candidates.boxes)
    count, most = candidates.scores.shape
    there = candidates.scores > 0
    if boxes.device.type != "cpu":
        owners = torch.arange(count, device=boxes.device).repeat_interleave(most)
        crops = pictures.cut(boxes.flatten(0, 1), owners, network.side)
        return network(crops).view(count, most, -1) * there[..., None]
    owners, places = there.nonzero(as_tuple=True)
    outputs = network(pictures.cut(boxes[owners, places], owners, network.side))
    judged = outputs.new_zeros(count, most, outputs.shape[1])
    judged[owners, places] = outputs
    return judged


def _faces(rows: Tensor, confidence: float) -> list[list[Face]]:
    """Converts boxes, scores and landmarks (N×K×15) to records, without faces below the confidence."""
    faces: list[list[Face]] = [[] for _ in rows]
    owners, places = (rows[..., 4] >= confidence).nonzero(as_tuple=True)
    for owner, row in zip(owners.tolist(), rows[owners, places].tolist(), strict=True):
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
