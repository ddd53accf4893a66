"""MTCNN over batches of frames: three networks, each looking closer at what the one before let through.

The networks' weights are facenet-pytorch's; the driver is ours. It takes frames of mixed sizes, has no trouble with
frames that hold no face or are too small for one, and cuts and judges all candidates of a batch at once. The method:
Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks" (2016),
https://arxiv.org/abs/1604.02878.

On a graphics card nothing is asked of it between the stages: each gives a fixed number of candidates on, and that it
had more is noticed with the result. The batch is then done again with more limits.
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

#: The score each network must give: facenet-pytorch's defaults.
STAGE_THRESHOLDS = (0.6, 0.7, 0.7)
#: The second and the third drop what overlaps a better candidate by more than this.
STAGE_OVERLAP = 0.7
#: A face that is expected somewhere is looked for in its box grown by this factor.
GROWN = 1.1
#: Candidates of a picture for which there is room at first after each network, on a graphics card.
INITIAL_LIMITS = (512, 128, 64)


class FaceDetector:
    """Finds faces and their five landmarks.

    Args:
        config: smallest face and lowest confidence.
        device: where the networks run.
        dtype: to compute in; None for the fastest there.

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
        """Find the faces in each frame.

        Args:
            frames: H×W×3 uint8 RGB each; sizes may differ.
            config: instead of the detector's own.
            any_size: give also the smaller faces that come up in the search for those wanted.

        Returns:
            For each frame its faces, largest first; empty where there is none.
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
        """Find the faces close to where some are expected, without a search of the whole frames.

        Args:
            frames: H×W×3 uint8 RGB each; sizes may differ.
            near: for each frame the boxes of faces as they were shortly before or after.
            config: instead of the detector's own.

        Returns:
            For each frame the faces that were found, of any size, largest first.
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
        """All three stages on frames of one size."""
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
        """The last two stages on frames of one size, at least one box each."""
        candidates = _expected(near, self.device)
        return self._judged(self._pictures(frames), lambda _: candidates, config.confidence)

    def _judged(
        self, pictures: Pictures, candidates: Callable[[_CandidateLimits], Candidates], confidence: float
    ) -> list[list[Face]]:
        """The last two stages."""
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
        """First stage: the windows in all levels of the pyramid that look like faces."""
        canvases = enumerate(pictures.canvases(layout))
        found = [self._windows(canvas, layout, number, size, limits) for number, canvas in canvases]
        # Between levels nothing needs to be suppressed: their windows differ too much in size to overlap by 70 %.
        scores, places = limits.best(torch.cat([part.scores for part in found], 1), 0)
        return Candidates(squared(at(torch.cat([part.boxes for part in found], 1), places)), scores)

    def _windows(
        self, canvas: Tensor, layout: Layout, number: int, size: tuple[int, int], limits: _CandidateLimits
    ) -> Candidates:
        """Candidates on one canvas: the windows with a higher score than all around them."""
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
        """Second stage: drops most candidates and improves the boxes of the rest."""
        judged = _network_outputs(self._refine, pictures, candidates)
        scores, places = limits.best(_above(judged[..., 0], STAGE_THRESHOLDS[1]), 1)
        boxes = at(candidates.boxes, places)
        kept = suppressed(Candidates(boxes, scores), STAGE_OVERLAP)
        return Candidates(squared(shifted(boxes, at(judged[..., 1:5], places))), kept)

    def _outputs(self, pictures: Pictures, candidates: Candidates, limits: _CandidateLimits) -> Tensor:
        """Third stage: N×K×15 of the final boxes, scores (0 where there is no face) and landmarks."""
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
    """How many candidates of a picture each stage passes on: as many as there are, or on a graphics card, so many."""

    def __init__(self, device: torch.device) -> None:
        self.limited = device.type != "cpu"
        self._limits: tuple[int, ...] = INITIAL_LIMITS
        self._exceeded = torch.zeros((), dtype=torch.bool, device=device)

    def best(self, scores: Tensor, stage: int) -> tuple[Tensor, Tensor]:
        """Scores and places (N×k) of the candidates with a score (N×K), best first."""
        if not self.limited:
            return chosen(scores, None)
        self._exceeded |= ((scores > 0).sum(1) > self._limits[stage]).any()
        return chosen(scores, self._limits[stage])

    def exceeded(self) -> bool:
        """Whether some picture had more; there will be more room then."""
        if not self.limited or not bool(self._exceeded):
            return False
        self._limits = tuple(4 * size for size in self._limits)
        self._exceeded.zero_()
        return True


def _fast_dtype(device: torch.device) -> torch.dtype:
    """Half precision where the machine computes in it: it moves boxes by less than a hundredth of their side."""
    if device.type == "cuda":
        return torch.float16 if torch.cuda.get_device_capability(device) >= (7, 0) else torch.float32
    has_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    capabilities = torch.cpu.get_capabilities() if has_onednn and hasattr(torch.cpu, "get_capabilities") else {}
    fast = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if fast else torch.float32


@lru_cache(maxsize=16)
def _tables(layout: Layout, canvas: int, size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """What leads from the windows of a canvas to boxes in pictures of a (width, height).

    Returns:
        For each window its level, or −1 (h×w), for each level its first window there as (column, row), and how many
        of the picture's pixels a pixel of the level is, along (x, y, x, y).
    """
    windows = torch.from_numpy(layout.windows(canvas)).to(device)
    corners = [[level.left // PROPOSAL_STRIDE, level.top // PROPOSAL_STRIDE] for level in layout.levels]
    scales = [[size[0] / level.width, size[1] / level.height] * 2 for level in layout.levels]
    return windows, torch.tensor(corners, device=device), torch.tensor(scales, device=device)


def _by_size(frames: Sequence[NDArray[np.uint8]]) -> list[list[int]]:
    """Places of the frames, those of one size together."""
    places: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, frame in enumerate(frames):
        places[frame.shape].append(place)
    return list(places.values())


def _expected(near: Sequence[Sequence[Box]], device: torch.device) -> Candidates:
    """Candidates where faces are expected."""
    boxes = torch.zeros(len(near), max(map(len, near)), 4)
    scores = torch.zeros(boxes.shape[:2])
    for number, known in enumerate(near):
        square = squared(torch.tensor(known, dtype=torch.float32))
        centre, side = (square[:, :2] + square[:, 2:]) / 2, square[:, 2:] - square[:, :2]
        boxes[number, : len(known)] = torch.cat([centre - side * GROWN / 2, centre + side * GROWN / 2], 1)
        scores[number, : len(known)] = 1
    return Candidates(boxes.to(device), scores.to(device))


def _above(scores: Tensor, threshold: float) -> Tensor:
    """The scores that are high enough, and 0 for the others."""
    return torch.where(scores > threshold, scores, 0)


def _peaks(logits: Tensor, limits: _CandidateLimits) -> tuple[Tensor, Tensor]:
    """Windows that may be faces, and more so than each of their eight neighbours.

    facenet-pytorch suppresses the same neighbours, and no others, for their windows overlap by half, but keeps those
    whose better neighbour has been suppressed in turn.

    Args:
        logits: N×h×w.
        limits: how many windows to keep.

    Returns:
        Scores (0 where there is nothing) and places (counted row by row), N×K.
    """
    count, height, width = logits.shape
    threshold = float(np.log(STAGE_THRESHOLDS[0] / (1 - STAGE_THRESHOLDS[0])))
    if limits.limited:
        highest = functional.max_pool2d(logits[:, None], 3, 1, 1)[:, 0]
        peaks = (logits >= highest) & (logits >= threshold)
        return limits.best(torch.where(peaks, logits.sigmoid(), 0).flatten(1), 0)
    # Few windows are above the threshold: on the CPU it is faster to look around these alone.
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
    """What a network says of all candidates, N×K×C; 0 of those that aren't there."""
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
    """Records from N×K×15 of boxes, scores and landmarks, without the faces that are too doubtful."""
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
