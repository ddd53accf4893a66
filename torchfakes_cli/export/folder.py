"""Runs an export: convert the networks, compare them with torch, and write the files only then."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from torchfakes_cli.detector.checkpoint import HEADER_KEY, Header
from torchfakes_cli.detector.detector import Detector
from torchfakes_cli.errors import ModelError, OutputError, UsageError
from torchfakes_cli.export import networks, parity
from torchfakes_cli.export.networks import NETWORKS, CascadeNetwork, planes, session
from torchfakes_cli.export.parity import BOUNDS, SIDES, random_crops
from torchfakes_cli.faces.mtcnn import STAGE_OVERLAP, STAGE_THRESHOLDS, FaceDetector
from torchfakes_cli.faces.networks import MEAN, OUTPUT_SIDE, REFINE_SIDE, SCALE
from torchfakes_cli.faces.options import SHARPNESS_SIZE, FaceConfig
from torchfakes_cli.faces.pyramid import GRAY, PROPOSAL_CELL, PROPOSAL_STRIDE, PYRAMID_FACTOR
from torchfakes_cli.files import write_atomically
from torchfakes_cli.scan.config import VerdictConfig
from torchfakes_cli.version import __version__

DETECTOR_FILE, FACTS_FILE = "detector.onnx", "torchfakes.json"
#: Version of the JSON description's format.
FORMAT = 1
#: Number of timed runs per file, after one warm-up run.
ROUNDS = 15
#: Input (width, height) of the first network's timed runs: one pyramid level.
TIMED_LEVEL = (320, 180)

_INPUT = {"type": "float32", "values": "RGB from 0 to 255"}
_NORMALIZED = "(value - mean) / scale"
#: Use of the cascade's outputs.
_FORMULAS = {
    "level": "side * cell / min_face * factor ** n, rounded to an even number, while the shorter is >= cell",
    "window": "x1 = floor((stride * column + 1) * ratio), x2 = floor((stride * column + cell) * ratio); "
    "ratio = width / width of the level; the same for y",
    "box": "x1 += offsets[0] * side, y1 += offsets[1] * side, x2 += offsets[2] * side, y2 += offsets[3] * side; "
    "side = x2 - x1 or y2 - y1 for the first network, 1 more for the others",
    "landmark": "x = x1 - 1 + landmarks[n] * side, y = y1 - 1 + landmarks[5 + n] * side; before the box moves",
    "cut": "the square from (x1 - 1, y1 - 1) to (x2, y2)",
}


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """An exported file, and the median latency on this machine for the input ``timed``: its own and torch's (fp32)."""

    path: Path
    precision: str
    megabytes: float
    timed: str
    milliseconds: float
    torch_milliseconds: float


@dataclass(frozen=True, slots=True)
class Exported:
    """Result of an export.

    Attributes:
        input_shape: the detector's input shape, formatted for display.
        threads: number of threads of the latency measurements.
        files: the ONNX files, the detector first.
        facts: path of the JSON description.
        scores: parity of the detector, on random crops and on given crops.
        outputs: parity of the cascade's networks on random pictures, by network name.
        boxes: parity of the cascade's faces on pictures; None without pictures.
        doubts: warnings for the user.
    """

    input_shape: str
    threads: int
    files: tuple[ExportedFile, ...]
    facts: Path
    scores: tuple[parity.Scores, ...]
    outputs: dict[str, parity.Outputs]
    boxes: parity.Boxes | None
    doubts: tuple[str, ...]


def export_model(
    model: str | PathLike[str],
    out: Path,
    *,
    precision: str = "fp32",
    cascade_precision: str | None = None,
    crops: Path | None = None,
    pictures: Path | None = None,
    force: bool = False,
    accept: bool = False,
) -> Exported:
    """Export a detector, and the face detection cascade if the output is a folder, as ONNX files compared with torch.

    The detector's input ``crops`` is N×3×S×S float32, RGB from 0 to 255, with variable N; its outputs are ``logit`` and
    ``p_fake``, N each. The file's metadata holds the detector's header.

    Args:
        model: path or name, as for ``load_detector``.
        out: a path ending with ``.onnx`` for the detector alone (with a JSON file next to it), otherwise a folder.
        precision: precision of the detector: ``fp32``, ``fp16`` or ``int8``.
        cascade_precision: precision of the cascade; None for the detector's, or ``fp16`` with an ``int8`` detector: the
            three networks are small, and slightly moved boxes change scores more than the detector's quantization.
        crops: a folder created by ``prepare``, for int8 calibration and for the comparison.
        pictures: a folder of pictures with faces, for the cascade, and for the detector if there are no crops.
        force: replace existing files.
        accept: write the files even if the comparison fails.

    Raises:
        UsageError: ONNX's libraries are not installed, or the precision is unknown.
        ModelNotFoundError: the detector doesn't exist.
        CheckpointError: the detector can't be used.
        DataError: the crops or pictures can't be used.
        ModelError: the files' outputs differ too much from torch's; nothing is written.
        OutputError: a file exists already, or can't be written.
    """
    networks.need_libraries()
    cascade_precision = cascade_precision or ("fp16" if precision == "int8" else precision)
    for name in (precision, cascade_precision):
        if name not in BOUNDS:
            raise UsageError(f"there is no precision {name!r}", advice=f"Choose {', '.join(BOUNDS)}.")
    whole = out.suffix != ".onnx"
    names = [DETECTOR_FILE, *(f"{name}.onnx" for name in NETWORKS), FACTS_FILE]
    targets = [out / name for name in names] if whole else [out, out.with_suffix(".json")]
    _check_free(out, targets, whole=whole, force=force)
    seen = parity.read_pictures(pictures) if pictures is not None else []
    module, detector = networks.load_both(model)
    header = detector.header
    faces = FaceDetector(device="cpu", dtype=torch.float32)
    samples = parity.faces_of(seen, header, faces) if seen and crops is None else None
    if crops is not None:
        samples = parity.prepared_crops(crops, header)
    data, file, scores = _export_detector(module, detector, samples, targets[0], precision)
    troubles = [score.trouble(BOUNDS[precision]) for score in scores]
    files, boxes = {file: data}, None
    outputs: dict[str, parity.Outputs] = {}
    if whole:
        if not seen and samples is not None:  # the crops as pictures, alternately for calibration and comparison
            seen = [crop for pair in zip(samples.calibrating, samples.compared, strict=False) for crop in pair]
        more, outputs, boxes = _export_cascade(faces, seen, out, cascade_precision)
        files |= more
        bound = BOUNDS[cascade_precision]
        troubles += [found.trouble(name, bound) for name, found in outputs.items()]
        troubles += [boxes.trouble(bound)] if boxes is not None else []
    troubles = [trouble for trouble in troubles if trouble]
    if troubles and not accept:
        ways = "" if samples is not None else "--crops or --pictures may help, and "
        advice = f"Nothing was written; {ways}--accept writes it nevertheless."
        raise ModelError(troubles[0], path=out, advice=advice)
    facts = {
        "format": FORMAT,
        "made_by": f"torchfakes {__version__}",
        "detector": _detector_facts(header, targets[0].name, precision),
        **({"cascade": _cascade_facts(cascade_precision)} if whole else {}),
        "parity": {
            "scores": [asdict(score) for score in scores],
            "networks": {name: asdict(found) for name, found in outputs.items()},
            "boxes": None if boxes is None else asdict(boxes),
        },
    }
    for file, content in files.items():
        write_atomically(file.path, content)
    write_atomically(targets[-1], json.dumps(without_nan(facts), indent=2, ensure_ascii=False))
    shape = f"N×3×{header.picture_size}×{header.picture_size}"
    threads = torch.get_num_threads()
    return Exported(shape, threads, tuple(files), targets[-1], tuple(scores), outputs, boxes, tuple(troubles))


def without_nan(value: Any) -> Any:
    """Replace NaN by None in a document: differences of files that overflow are NaN, which JSON doesn't have."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _check_free(out: Path, targets: Sequence[Path], *, whole: bool, force: bool) -> None:
    for path in targets:
        if path.is_dir() or (path.exists() and not force):
            cause = "is a folder" if path.is_dir() else "is there already"
            raise OutputError(cause, path=path, advice="Choose another place, or use --force.")
    if whole and out.exists() and not out.is_dir():
        raise OutputError("is a file", path=out, advice="Name a folder, or a file ending with .onnx.")


def _export_detector(
    module: networks.WholeDetector, detector: Detector, samples: parity.Samples | None, path: Path, precision: str
) -> tuple[bytes, ExportedFile, list[parity.Scores]]:
    header, names = detector.header, ("logit", "p_fake")
    side = header.picture_size
    free = {name: {0: "batch"} for name in ("crops", *names)}
    data = networks.to_onnx(module, torch.zeros(2, 3, side, side), "crops", names, free)
    # Random crops widen the ranges, which a few similar faces would leave too narrow; the comparison uses another seed.
    calibrating = [*random_crops(side, side, seed=1), *samples.calibrating] if samples else []
    data = _converted(data, precision, list(parity.batches(calibrating)) if calibrating else None)
    data = networks.with_property(data, HEADER_KEY, json.dumps(asdict(header), sort_keys=True))
    run = session(data, torch.get_num_threads())
    random = random_crops(side, side)
    scores = [parity.compare_scores(run, detector, random, "random crops")]
    if samples is not None:
        scores.append(parity.compare_scores(run, detector, samples.compared, "the crops", samples.fake))
    one = planes(random[:1])
    times = _milliseconds(lambda: run.run(None, {"crops": one}), lambda: detector.score(random[:1]))
    return data, ExportedFile(path, precision, len(data) / 1e6, "face", *times), scores


def _export_cascade(
    faces: FaceDetector, pictures: Sequence[parity.Pixels], folder: Path, precision: str
) -> tuple[dict[ExportedFile, bytes], dict[str, parity.Outputs], parity.Boxes | None]:
    modules = {name: CascadeNetwork(name) for name in NETWORKS}
    plain = {name: _network_onnx(name, module) for name, module in modules.items()}
    threads = torch.get_num_threads()
    recorders = [parity.CascadeFile(name, session(data, threads), record=True) for name, data in plain.items()]
    if precision == "int8":
        for picture in pictures[::2]:
            parity.face_detector(recorders).detect([picture])
    files, outputs, converted = {}, {}, []
    for (name, module), recorder in zip(modules.items(), recorders, strict=True):
        data = _converted(plain[name], precision, recorder.inputs if pictures else None)
        run = session(data, threads)
        converted.append(parity.CascadeFile(name, run))
        size = (SIDES[name], SIDES[name]) if SIDES[name] else TIMED_LEVEL
        random = random_crops(*size)
        outputs[name] = parity.compare_outputs(run, module, random)
        one = planes(random[:1])
        times = _milliseconds(partial(run.run, None, {"pictures": one}), partial(module, torch.from_numpy(one)))
        timed = "candidate" if SIDES[name] else f"{size[0]}×{size[1]}"
        files[ExportedFile(folder / f"{name}.onnx", precision, len(data) / 1e6, timed, *times)] = data
    compared = pictures[1::2]
    return files, outputs, parity.compare_boxes(parity.face_detector(converted), faces, compared) if compared else None


def _network_onnx(name: str, module: CascadeNetwork) -> bytes:
    free = {output: {0: "batch"} for output in ("pictures", *networks.OUTPUTS[name])}
    if name == "pnet":
        free["pictures"] |= {2: "height", 3: "width"}
        free["logit"] |= {1: "rows", 2: "columns"}
        free["offsets"] |= {2: "rows", 3: "columns"}
    side = SIDES[name] or 64
    return networks.to_onnx(module, torch.zeros(2, 3, side, side), "pictures", networks.OUTPUTS[name], free)


def _converted(plain: bytes, precision: str, calibrating: Sequence[NDArray[np.float32]] | None) -> bytes:
    if precision == "int8":
        return networks.to_int8(plain, calibrating)
    return networks.to_half(plain) if precision == "fp16" else plain


@torch.inference_mode()
def _milliseconds(ours: Callable[[], object], torchs: Callable[[], object]) -> tuple[float, float]:
    """Return the median time of both functions; they alternate so that other load affects both equally."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(1 + ROUNDS):
        for times, run in zip(taken, (ours, torchs), strict=True):
            started = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - started))
    return median(taken[0][1:]), median(taken[1][1:])


def _detector_facts(header: Header, file: str, precision: str) -> dict[str, Any]:
    """Describe the detector's file for apps."""
    faces, verdict, side = FaceConfig(), VerdictConfig(), header.picture_size
    calibration = {
        "slope": header.slope,
        "intercept": header.intercept,
        "formula": "p_fake = 1 / (1 + exp(-(slope * logit + intercept)))",
    }
    return {
        "file": file,
        "precision": precision,
        "name": header.name,
        "licence": header.licence,
        "input": {"name": "crops", "shape": ["N", 3, side, side], **_INPUT, "size": side},
        "outputs": ["logit", "p_fake"],
        "in_the_file": {
            "normalisation": {"mean": header.mean, "scale": header.scale, "formula": _NORMALIZED},
            "enlarged_to": header.input_size,
            "coarse_weight": header.coarse_weight,
            "calibration": calibration,
        },
        "crop": {"shape": header.crop_shape, "margin": header.margin, "beyond": 0},
        "sharpness": {"size": SHARPNESS_SIZE, "blurry_below": faces.blur_threshold},
        "fake_above": header.fake_above,
        "real_below": header.real_below,
        "video": {"faces_at_least": verdict.min_faces, "trimmed_at_each_end": verdict.trim},
    }


def _cascade_facts(precision: str) -> dict[str, Any]:
    """Describe the cascade's three files and their use for apps."""
    config = FaceConfig()
    return {
        "files": [f"{name}.onnx" for name in NETWORKS],
        "precision": precision,
        "input": {"name": "pictures", "shape": ["N", 3, "H", "W"], **_INPUT},
        "in_the_file": {"normalisation": {"mean": MEAN, "scale": SCALE, "formula": _NORMALIZED}},
        "min_face": config.min_face,
        "smallest": config.smallest,
        "confidence": config.confidence,
        "cell": PROPOSAL_CELL,
        "stride": PROPOSAL_STRIDE,
        "factor": PYRAMID_FACTOR,
        "sides": [REFINE_SIDE, OUTPUT_SIDE],
        "thresholds": list(STAGE_THRESHOLDS),
        "overlap": STAGE_OVERLAP,
        "beyond": GRAY[0],
        "formulas": _FORMULAS,
    }
