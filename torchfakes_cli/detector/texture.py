"""How much fine and coarse detail each place of a face holds: what a swap or an animation changes.

A picture of a face holds detail of every size: grain, pores, hair, edges, shading. A face that was made by a network
and blended into a frame has more or less of some of it than a camera would have left there, for it was scaled,
smoothed, sharpened and encoded differently from what surrounds it. So the strength of each band of detail, in
brightness and in both colours, is measured at fixed places of the upright face, and for the finest bands how much
neighbouring pixels depend on each other (see ``neighbours``). They are compared with the same places of other faces:
those of real footage and those of each known kind of fake (discriminant analysis with one covariance for all kinds,
Fisher 1936, to which each kind adds a share of its own, Friedman 1989, "Regularized Discriminant Analysis"). That needs
few examples, where a network needs many; the two complement each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchfakes_cli.detector import neighbours
from torchfakes_cli.detector.spreads import Spreads
from torchfakes_cli.detector.threads import products
from torchfakes_cli.errors import CheckpointError

#: Side in pixels of the upright face that is measured.
SIDE = 160
#: Places a row and a column of it; mirror images count as one.
GRID = 16
#: Standard deviations, in pixels of the upright face, of the Gaussians that part the bands of detail.
SIGMAS = (0.6, 1.2, 2.4, 4.8)
#: Of the strengths: bands, rows and columns of places, colours (Y, Cr and Cb of ITU-R BT.601).
SHAPE = (len(SIGMAS), GRID, GRID // 2, 3)
#: How many they are. They come first: checkpoints made before there were correlations judge by them alone.
STRENGTHS = SHAPE[0] * SHAPE[1] * SHAPE[2] * SHAPE[3]
#: So many of the finest bands are compared with their neighbours too.
FINE = 2
#: Of the correlations: band by band each neighbour, rows and columns of places, colours.
TIED_SHAPE = (FINE * len(neighbours.NEIGHBOURS), neighbours.GRID, neighbours.GRID // 2, 3)
#: Values that describe a face.
LENGTH = STRENGTHS + TIED_SHAPE[0] * TIED_SHAPE[1] * TIED_SHAPE[2] * TIED_SHAPE[3]
#: Where MTCNN's five landmarks (eyes, nose, corners of the mouth) lie in the upright face: an average face, its
#: surroundings as wide as it is.
UPRIGHT = np.array([(60, 66), (100, 66), (80, 89), (64, 110), (96, 110)], np.float32)
#: Where they usually lie in a square crop with a margin of 1.3, in shares of its side: means of 7,923 crops.
USUAL = np.array([(0.373, 0.42), (0.631, 0.417), (0.501, 0.577), (0.395, 0.705), (0.613, 0.701)], np.float32)
#: Added to a band's strength in grey levels before its logarithm: far under a camera's noise, so that flat places stay
#: finite and alike.
FLOOR = 0.1
#: A crop that has to shrink by more than this is averaged down first, for interpolation alone would skip pixels.
SHRINKS = 0.75
#: What the tensors of a texture are called in a checkpoint.
PREFIX = "texture."
_PARTS = ("directions", "offsets", "typical", "joining")
_SPREADS = ("spreads.directions", "spreads.centres", "spreads.owned")


def upright_map(landmarks: NDArray[np.float32], side: int) -> NDArray[np.float64]:
    """How a crop is turned, moved and scaled to show its face upright.

    Args:
        landmarks: 5×2, (x, y) in pixels of the crop.
        side: longer one of the crop, for landmarks that fix nothing: its face is then taken to lie as faces usually do.

    Returns:
        2×3, from the crop's pixels to those of the upright face.
    """
    for points in (landmarks, USUAL * side):
        # Outliers are left out: a mouth corner is sometimes far off. The stubs don't say so, but None means none found.
        found: Any = cv2.estimateAffinePartial2D(points.astype(np.float32), UPRIGHT, method=cv2.LMEDS)[0]
        if found is not None and np.isfinite(found).all() and np.hypot(*found[0, :2]) > SIDE / 8192:
            break
    return np.asarray(found, np.float64)


def describe(crop: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Measure the detail of a face.

    Args:
        crop: H×W×3 uint8 RGB.
        landmarks: 5×2, (x, y) in pixels of the crop: eyes, nose, corners of the mouth.

    Returns:
        ``LENGTH`` float32: logarithms of the mean absolute value of each band, in grey levels, of the shape ``SHAPE``;
        then the fine bands' correlations with their neighbours, of the shape ``TIED_SHAPE``.
    """
    height, width = crop.shape[:2]
    matrix = upright_map(landmarks, max(height, width))
    scale = float(np.hypot(*matrix[0, :2]))
    if scale < SHRINKS:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        crop = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)
        # Back from the reduced crop's pixels to the crop's; the centre of pixel 0 lies half a pixel from the border.
        back_x, back_y = width / size[0], height / size[1]
        matrix = matrix @ np.array([(back_x, 0, (back_x - 1) / 2), (0, back_y, (back_y - 1) / 2), (0, 0, 1)])
    face = cv2.warpAffine(crop, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    rest: NDArray[Any] = cv2.cvtColor(face, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    bands: list[NDArray[np.float32]] = []
    pixel = 1
    for sigma in SIGMAS:
        smooth = cv2.GaussianBlur(rest, (0, 0), sigma / pixel)
        bands.append(np.asarray(rest - smooth, np.float32))
        rest = smooth
        if sigma / pixel > 1:
            # Nothing is left that half as many pixels wouldn't hold.
            rest = cv2.resize(rest, (rest.shape[1] // 2, rest.shape[0] // 2), interpolation=cv2.INTER_AREA)
            pixel *= 2
    means = [cv2.resize(np.abs(band), (GRID, GRID), interpolation=cv2.INTER_AREA) for band in bands]
    strength = np.log(np.stack(means) + np.float32(FLOOR))
    halves = (strength + strength[:, :, ::-1])[:, :, : GRID // 2] / 2
    return np.concatenate([halves.ravel(), neighbours.correlations(bands[:FINE]).ravel()]).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """What the detail of real faces and of kinds of fakes is like.

    Attributes:
        directions: K×``LENGTH`` (or K×``STRENGTHS``) float32, one a kind; the real kinds first.
        offsets: K float32.
        typical: as many float32, the mean real face, against which a face's own detail is explained.
        fakes: how many of the last kinds are fake.
        network_weight: the network's logit counts so much beside the texture's.
        spreads: of each kind; none in checkpoints made before there were any.
    """

    directions: NDArray[np.float32]
    offsets: NDArray[np.float32]
    typical: NDArray[np.float32]
    fakes: int
    network_weight: float
    spreads: Spreads

    def logits(self, described: NDArray[np.float32]) -> NDArray[np.float32]:
        """By how much the fake kinds together are likelier than the real ones.

        Args:
            described: N×``LENGTH``, as ``describe`` gives them.

        Returns:
            N float32, logarithms of the ratio; positive means fake.
        """
        known = described[:, : self.typical.size]
        likely = products(known, self.directions) + self.offsets + self.spreads.likelier(known - self.typical)
        real, fake = likely[:, : -self.fakes], likely[:, -self.fakes :]
        return np.asarray(np.logaddexp.reduce(fake, 1) - np.logaddexp.reduce(real, 1), np.float32)

    def joined(self, network: NDArray[np.float32], described: NDArray[np.float32]) -> NDArray[np.float32]:
        """The detector's logits from the network's (N) and what ``describe`` found (N×``LENGTH``)."""
        return np.asarray(self.network_weight * network + self.logits(described), np.float32)

    def shares(self, crop: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        """What each place of a crop adds to the texture's logit, beyond what the mean real face has there.

        Exact for a small step from the mean real face; the kinds weigh as they do for this face.

        Args:
            crop: as for ``describe``.
            landmarks: as for ``describe``.

        Returns:
            H×W float32 over the crop: positive where the detail speaks for a fake. They sum to the step, but for places
            of the upright face that the crop doesn't show.
        """
        described = describe(crop, landmarks)[: self.typical.size]
        beyond = described - self.typical
        likely = (products(described[None], self.directions) + self.offsets + self.spreads.likelier(beyond[None]))[0]
        real, fake = likely[: -self.fakes], likely[-self.fakes :]
        weights = np.concatenate([-np.exp(real - np.logaddexp.reduce(real)), np.exp(fake - np.logaddexp.reduce(fake))])
        step = products(weights[None], (self.directions + self.spreads.slopes(beyond)).T)[0] * beyond
        half = _over_places(step) / 2
        places = cv2.resize(np.hstack([half, half[:, ::-1]]), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        height, width = crop.shape[:2]
        matrix = upright_map(landmarks, max(height, width))
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        spread = cv2.warpAffine(places, matrix, (width, height), flags=flags)
        # From a value a place to one a pixel.
        return np.asarray(spread * (GRID / SIDE) ** 2 * abs(np.linalg.det(matrix[:, :2])), np.float32)

    def tensors(self) -> dict[str, Tensor]:
        """As they stand in a checkpoint, by name."""
        found = {"directions": self.directions, "offsets": self.offsets, "typical": self.typical,
                 "joining": np.array([self.fakes, self.network_weight], np.float32)}  # fmt: skip
        if len(own := self.spreads.directions):
            found |= dict(zip(_SPREADS, (own, self.spreads.centres, self.spreads.owned), strict=True))
        return {PREFIX + name: torch.from_numpy(values.copy()) for name, values in found.items()}


def _over_places(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sum over bands and colours at each place, ``GRID`` × ``GRID`` / 2, of values like a description's."""
    found = values[:STRENGTHS].reshape(SHAPE).sum((0, 3))
    if values.size > STRENGTHS:
        within = GRID // neighbours.GRID
        found = found + np.kron(
            values[STRENGTHS:].reshape(TIED_SHAPE).sum((0, 3)), np.full((within, within), within**-2, np.float32)
        )
    return np.asarray(found, np.float32)


def split_texture(state: Mapping[str, Tensor], path: str | None = None) -> tuple[dict[str, Tensor], Texture | None]:
    """Part a checkpoint's tensors into the network's and the texture.

    Args:
        state: as ``load_checkpoint`` gives it.
        path: of the file, for the error.

    Returns:
        The network's tensors, and the texture; None where there is none.

    Raises:
        CheckpointError: the texture's tensors don't fit one another, or are no numbers.
    """
    network = {name: tensor for name, tensor in state.items() if not name.startswith(PREFIX)}
    own = {name.removeprefix(PREFIX): tensor for name, tensor in state.items() if name.startswith(PREFIX)}
    if not own:
        return network, None
    if own.keys() not in (set(_PARTS), {*_PARTS, *_SPREADS}):
        raise CheckpointError(f"its texture has the parts {', '.join(sorted(own))}", path=path)
    values = {name: np.asarray(tensor.float().numpy(), np.float32) for name, tensor in own.items()}
    kinds = values["offsets"].size
    length = values["typical"].size
    if length not in (STRENGTHS, LENGTH):
        cause = f"its texture describes a face with {length} values, and this version with {LENGTH} (or {STRENGTHS})"
        raise CheckpointError(cause, path=path, advice="Make it again with 'torchfakes texture'.")
    found = [values.pop(name) for name in _SPREADS if name in values]
    spreads = Spreads(*found) if found else Spreads.none(kinds, length)
    shapes = {"directions": (kinds, length), "offsets": (kinds,), "typical": (length,), "joining": (2,)}
    if any(values[name].shape != shape for name, shape in shapes.items()) or not spreads.fits(kinds, length):
        raise CheckpointError("its texture's parts don't fit one another", path=path)
    if not all(np.isfinite(value).all() for value in [*values.values(), *found]):
        raise CheckpointError("its texture holds values that are not finite", path=path)
    fakes, weight = values.pop("joining").tolist()
    if not (fakes == int(fakes) and 0 < fakes < kinds and weight >= 0):
        raise CheckpointError("its texture has no real or no fake kinds", path=path)
    return network, Texture(**values, fakes=int(fakes), network_weight=weight, spreads=spreads)
