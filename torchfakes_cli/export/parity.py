"""Comparison of exported files with torch: its crops and pictures, and the allowed differences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.detector import Detector
from torchfakes_cli.detector.preprocess import box_part, resize_crop
from torchfakes_cli.errors import DataError
from torchfakes_cli.export.networks import planes
from torchfakes_cli.faces.crops import crop_face, iou
from torchfakes_cli.faces.mtcnn import FaceDetector
from torchfakes_cli.faces.networks import OUTPUT_SIDE, REFINE_SIDE
from torchfakes_cli.training.corpora.base import FAKE
from torchfakes_cli.training.crops.manifest import read_crop, read_manifest, recorded_settings, usable

#: Crops per inference call.
BATCH = 16
#: Minimum intersection over union of two boxes of the same face.
SAME_FACE = 0.5
#: Sides of the cascade networks' inputs in pixels; 0 for any.
SIDES = {"pnet": 0, "rnet": REFINE_SIDE, "onet": OUTPUT_SIDE}

#: Maximum numbers of crops for calibration and for comparison. More calibration crops had no measurable effect.
CALIBRATING, COMPARED = 128, 400
#: Maximum number of pictures searched for faces.
PICTURES = 100
#: Number of random crops.
RANDOM = 8
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Bound:
    """Allowed differences from torch for one precision.

    Attributes:
        largest: maximum difference of the detector's log-odds.
        mean: maximum mean difference of the log-odds, and of the cascade networks' outputs.
        outputs: maximum difference of the cascade networks' outputs.
        verdicts: minimum share of equal verdicts on crops.
        faces: minimum recall and precision of the cascade's faces.
        overlap: minimum mean intersection over union of matching boxes.
    """

    largest: float
    mean: float
    outputs: float
    verdicts: float
    faces: float
    overlap: float


#: Bounds by precision. Float32 differs only by the order of additions. The others are bounded by their effect on
#: verdicts and boxes; the bounds on differences cover scores far from any threshold and exports without real samples.
BOUNDS = {
    "fp32": Bound(largest=1e-3, mean=1e-4, outputs=1e-3, verdicts=0.99, faces=0.99, overlap=0.99),
    "fp16": Bound(largest=0.1, mean=0.02, outputs=0.1, verdicts=0.98, faces=0.97, overlap=0.97),
    "int8": Bound(largest=1.0, mean=0.1, outputs=3.0, verdicts=0.95, faces=0.95, overlap=0.9),
}


def _beyond(what: str, largest: float, most: float, mean: float, most_mean: float) -> str:
    """Describe the first exceeded bound; NaN exceeds every bound."""
    if not largest <= most:
        return f"{what} differ from torch's by up to {largest:.2g}, more than {most:g}"
    if not mean <= most_mean:
        return f"{what} differ from torch's by {mean:.2g} on average, more than {most_mean:g}"
    return ""


@dataclass(frozen=True, slots=True)
class Scores:
    """Comparison of the detector's file with torch.

    Attributes:
        on: description of the compared crops.
        count: number of crops.
        largest: maximum difference of the calibrated log-odds (slope × logit).
        mean: mean difference of the calibrated log-odds.
        verdicts: share of crops on the same side of the detector's two thresholds.
        rank: Spearman's correlation of the logits; None for fewer than three crops.
        auc: ROC AUC of the file; None without labels of both classes.
        auc_torch: ROC AUC of torch; None without labels of both classes.
    """

    on: str
    count: int
    largest: float
    mean: float
    verdicts: float
    rank: float | None
    auc: float | None
    auc_torch: float | None

    def trouble(self, bound: Bound) -> str:
        """Describe the first exceeded bound; empty without one."""
        if found := _beyond(f"log-odds on {self.on}", self.largest, bound.largest, self.mean, bound.mean):
            return found
        # One differing crop is always allowed, because it may lie on a threshold.
        if (1 - self.verdicts) * self.count > max(1.0, (1 - bound.verdicts) * self.count) + 1e-6:
            return f"{self.verdicts:.1%} of verdicts on {self.on} are torch's, fewer than {bound.verdicts:.0%}"
        return ""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Comparison of one cascade network with torch on random pictures: maximum and mean difference of the outputs."""

    largest: float
    mean: float

    def trouble(self, name: str, bound: Bound) -> str:
        """Describe the first exceeded bound; empty without one."""
        return _beyond(f"{name}'s outputs", self.largest, bound.outputs, self.mean, bound.mean)


@dataclass(frozen=True, slots=True)
class Boxes:
    """Comparison of the faces that a scan finds with the cascade's files and with torch.

    Attributes:
        pictures: number of compared pictures.
        torch: number of faces found by torch.
        files: number of faces found by the files.
        both: number of faces found by both.
        overlap: mean intersection over union of the faces found by both; None without any.
    """

    pictures: int
    torch: int
    files: int
    both: int
    overlap: float | None

    def trouble(self, bound: Bound) -> str:
        """Describe the first exceeded bound; empty without one."""
        found = f"{self.both} of torch's {self.torch} faces are found, and {self.files - self.both} others"
        for faces in (self.torch, self.files):
            if faces - self.both > max(1.0, (1 - bound.faces) * faces):
                return f"{found}: more than {1 - bound.faces:.0%} differ"
        if self.overlap is not None and self.overlap < bound.overlap:
            return f"boxes overlap torch's by {self.overlap:.3f} on average, less than {bound.overlap:g}"
        return ""


def compare_scores(
    session: Any, detector: Detector, crops: Sequence[Pixels], on: str, fake: NDArray[np.bool_] | None = None
) -> Scores:
    """Compare the scores of crops (S×S×3 RGB of the detector's size) by a file and by torch."""
    expected = detector.score(crops)
    found = np.concatenate([session.run(["logit"], {"crops": part})[0] for part in batches(crops)])
    # In calibrated log-odds, because networks differ in the scale of their logits.
    differences = np.abs(found - expected) * detector.header.slope
    zones = [_zones(logits, detector.header) for logits in (found, expected)]
    both_kinds = fake is not None and 0 < fake.sum() < len(fake)
    aucs = [float(roc_auc_score(fake, logits)) if both_kinds else None for logits in (found, expected)]
    return Scores(
        on=on,
        count=len(crops),
        largest=float(differences.max()),
        mean=float(differences.mean()),
        verdicts=float((zones[0] == zones[1]).mean()),
        rank=float(spearmanr(found, expected)[0]) if len(crops) > 2 else None,
        auc=aucs[0],
        auc_torch=aucs[1],
    )


def compare_outputs(session: Any, network: nn.Module, pictures: Sequence[Pixels]) -> Outputs:
    """Compare the outputs of a file and a torch module on pictures of one size."""
    inputs = planes(pictures)
    with torch.inference_mode():
        expected = network(torch.from_numpy(inputs))
    found = session.run(None, {"pictures": inputs})
    differences = np.concatenate([np.abs(a - b.numpy()).ravel() for a, b in zip(found, expected, strict=True)])
    return Outputs(float(differences.max()), float(differences.mean()))


class CascadeFile:
    """One of the cascade's files in the place of ``faces.networks.ProposalNetwork`` or ``CandidateNetwork``.

    Attributes:
        side: side of the network's input in pixels; 0 for any.
        inputs: all inputs so far, N×3×H×W each, if they are recorded.
    """

    def __init__(self, name: str, session: Any, *, record: bool = False) -> None:
        self.side = SIDES[name]
        self.inputs: list[Floats] = []
        self._session = session
        self._record = record

    def __call__(self, pictures: Tensor) -> Any:
        """Map N×H×W×3, values 0 to 255, to the same outputs as the replaced network."""
        if not len(pictures):
            return torch.zeros(0, 15 if self.side == OUTPUT_SIDE else 5)
        inputs = planes(list(pictures.numpy()))
        if self._record:
            self.inputs.append(inputs)
        logits, *rest = map(torch.from_numpy, self._session.run(None, {"pictures": inputs}))
        if not self.side:
            return logits, rest[0].permute(0, 2, 3, 1)
        return torch.cat([logits.sigmoid()[:, None], *rest], 1)


def face_detector(files: Sequence[CascadeFile]) -> FaceDetector:
    """Return the face detector of a scan, run with the three files of the cascade."""
    return FaceDetector(dtype=torch.float32, networks=cast(Any, tuple(files)))


def compare_boxes(files: FaceDetector, faces: FaceDetector, pictures: Sequence[Pixels]) -> Boxes:
    """Compare the faces found in pictures (H×W×3 RGB) by the files and by torch."""
    counts, overlaps = [0, 0], []
    for picture in pictures:
        expected, found = ([face.box for face in by.detect([picture])[0]] for by in (faces, files))
        counts = [counts[0] + len(expected), counts[1] + len(found)]
        for box in expected:
            best = max(found, key=lambda other: iou(box, other), default=None)
            if best is not None and iou(box, best) >= SAME_FACE:
                found.remove(best)
                overlaps.append(iou(box, best))
    mean = float(np.mean(overlaps)) if overlaps else None
    return Boxes(len(pictures), counts[0], counts[1], len(overlaps), mean)


def batches(crops: Sequence[Pixels]) -> Iterator[Floats]:
    """Yield input batches of crops; the first holds one crop, to check that results don't depend on batch size."""
    yield planes(crops[:1])
    for start in range(1, len(crops), BATCH):
        yield planes(crops[start : start + BATCH])


def _zones(logits: Floats, header: Header) -> NDArray[np.int64]:
    """Return the verdict of each logit: 0 for real, 1 for neither, 2 for fake."""
    p = 1 / (1 + np.exp(-(header.slope * logits.astype(np.float64) + header.intercept)))
    return (p >= header.real_below).astype(np.int64) + (p >= header.fake_above)


@dataclass(frozen=True, slots=True)
class Samples:
    """Face crops (S×S×3 uint8 RGB) of the detector's input size: for calibration, and of other people for comparison.

    ``fake`` holds the labels of the crops for comparison, None if they are unknown.
    """

    calibrating: list[Pixels]
    compared: list[Pixels]
    fake: NDArray[np.bool_] | None = None


def prepared_crops(folder: Path, header: Header) -> Samples:
    """Read crops created by ``prepare``: the validation split for calibration, the test split for comparison.

    If one of these splits is empty, all crops are used, and every second group is for calibration.

    Raises:
        DataError: there are too few crops, or their margin differs from the detector's.
    """
    table = read_manifest(folder)
    table = table[usable(table)]
    margin = recorded_settings(folder)["margin"]
    if abs(margin - header.margin) > 1e-6:
        cause = f"was cut with a margin of {margin:g}, and {header.name} expects {header.margin:g}"
        raise DataError(cause, path=folder, advice=f"Run 'torchfakes prepare' with --margin {header.margin:g}.")
    calibrating, compared = table[table["split"] == "val"], table[table["split"] == "test"]
    if calibrating.empty or compared.empty:
        second = table["group"].map({group: n % 2 for n, group in enumerate(sorted(set(table["group"])))}) == 1
        calibrating, compared = table[second], table[~second]
    if calibrating.empty or compared.empty:
        raise DataError("holds too few crops: those of two groups are needed", path=folder)
    rows, others = _evenly(list(calibrating.index), CALIBRATING), _evenly(list(compared.index), COMPARED)
    fake = (table.loc[others, "label"] == FAKE).to_numpy(bool)
    return Samples(_read(folder, table.loc[rows], header), _read(folder, table.loc[others], header), fake)


def faces_of(pictures: Iterable[Pixels], header: Header, faces: FaceDetector) -> Samples:
    """Crop the faces in pictures, alternately for calibration and comparison.

    Raises:
        DataError: fewer than two pictures contain a face.
    """
    found = []
    for picture in pictures:
        crops = [crop_face(picture, face.box, header.margin, header.crop_shape) for face in faces.detect([picture])[0]]
        if crops:
            found.append([resize_crop(crop, header.picture_size) for crop in crops])
    if len(found) < 2:
        raise DataError("the pictures show too few faces: two pictures with a face are needed")
    parts = [[crop for crops in found[start::2] for crop in crops] for start in (0, 1)]
    return Samples(_evenly(parts[0], CALIBRATING), _evenly(parts[1], COMPARED))


def read_pictures(folder: Path) -> list[Pixels]:
    """Read the pictures below a folder, H×W×3 uint8 RGB, upright; at most ``PICTURES``, evenly spread.

    Raises:
        DataError: there are no pictures, or one can't be read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise DataError(f"holds no pictures ({', '.join(SUFFIXES)})", path=folder)
    pictures = []
    for path in _evenly(paths, PICTURES):
        data = np.fromfile(path, np.uint8)
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
        if picture is None:
            raise DataError("can't be read as a picture", path=path)
        pictures.append(np.asarray(picture, np.uint8))
    return pictures


def random_crops(width: int, height: int, seed: int = 0) -> list[Pixels]:
    """Create smooth random pictures, dark to bright; pure noise is too unlike the networks' training data."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (RANDOM, 3, 6, 6)).astype(np.float32))
    smooth = functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False).numpy()
    noisy = smooth * np.linspace(0.4, 1.3, RANDOM)[:, None, None, None] + rng.normal(0, 6, smooth.shape)
    return list(np.ascontiguousarray(noisy.clip(0, 255).transpose(0, 2, 3, 1), np.uint8))


def _read(folder: Path, rows: pd.DataFrame, header: Header) -> list[Pixels]:
    crops = []
    for name, x1, y1, x2, y2 in rows[["crop", "x1", "y1", "x2", "y2"]].itertuples(index=False):
        crop = read_crop(folder / name)
        crop = box_part(crop, x2 - x1, y2 - y1) if header.crop_shape == "box" else crop
        crops.append(resize_crop(crop, header.picture_size))
    return crops


def _evenly(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most ``most`` of the items, evenly spread."""
    if len(items) <= most:
        return list(items)
    return [items[place] for place in np.linspace(0, len(items) - 1, most).round().astype(int)]
