"""Runs an export: converts the networks, compares them with torch, and writes the files only then."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
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
from torchfakes_cli.export import example
from torchfakes_cli.export.cascade import NETWORKS, OUTPUTS, CascadeNetwork, example_input
from torchfakes_cli.export.convert import need_libraries, session, to_half, to_int8, to_onnx, with_property
from torchfakes_cli.export.detector import WholeDetector, load_both
from torchfakes_cli.export.facts import cascade_facts, detector_facts, document, without_nan
from torchfakes_cli.export.parity import (
    BOUNDS,
    Boxes,
    Outputs,
    Scores,
    batches,
    compare_boxes,
    compare_outputs,
    compare_scores,
)
from torchfakes_cli.export.samples import Samples, faces_of, prepared_crops, random_crops, read_pictures
from torchfakes_cli.faces.mtcnn import FaceDetector
from torchfakes_cli.files import write_atomically

DETECTOR_FILE, FACTS_FILE, EXAMPLE_FILE = "detector.onnx", "torchfakes.json", "example.py"
#: Number of timed runs per file, after one warm-up run.
ROUNDS = 15
#: Input (height, width) for each network's latency: one pyramid level, or one candidate.
TIMED = {"pnet": (180, 320), "rnet": (24, 24), "onet": (48, 48)}

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """An exported file with its size and its latency on this machine.

    Attributes:
        path: path of the file.
        precision: precision of the weights.
        megabytes: file size in units of 10⁶ bytes.
        timed: input of the timed runs, in words.
        milliseconds: median latency of the file.
        torch_milliseconds: median latency of torch in float32.
    """

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
        files: ONNX files, the detector first.
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
    scores: tuple[Scores, ...]
    outputs: dict[str, Outputs]
    boxes: Boxes | None
    doubts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Converted:
    """A converted file in memory."""

    name: str
    precision: str
    data: bytes
    timed: str
    milliseconds: float
    torch_milliseconds: float


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
    """Exports a detector, and the face detection cascade if the output is a folder, as ONNX files compared with torch.

    The detector's input ``crops`` is N×3×S×S float32, RGB from 0 to 255, with variable N; its outputs are ``logit`` and
    ``p_fake``, N each. The file's metadata holds the detector's header.

    Args:
        model: path or name, as for ``load_detector``.
        out: a path ending with ``.onnx`` for the detector alone (with a JSON file next to it), otherwise a folder.
        precision: precision of the detector: ``fp32``, ``fp16`` or ``int8``.
        cascade_precision: precision of the cascade; None for the detector's, or ``fp16`` with an ``int8`` detector: the
            three networks are small, and slightly moved boxes change scores more than the detector's quantisation.
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
    need_libraries()
    cascade_precision = cascade_precision or ("fp16" if precision == "int8" else precision)
    for name in (precision, cascade_precision):
        if name not in BOUNDS:
            raise UsageError(f"there is no precision {name!r}", advice=f"Choose {', '.join(BOUNDS)}.")
    whole = out.suffix != ".onnx"
    facts_path = out / FACTS_FILE if whole else out.with_suffix(".json")
    _check_free(out, [out / name for name in _names()] if whole else [out, facts_path], force=force)
    seen = read_pictures(pictures) if pictures is not None else []
    module, detector = load_both(model)
    header = detector.header
    faces = FaceDetector(device="cpu", dtype=torch.float32)
    samples = _samples(crops, seen, header, faces)
    file, scores = _detector(module, detector, samples, precision)
    troubles = [score.trouble(BOUNDS[precision]) for score in scores]
    made, boxes, cascade = [file], None, None
    outputs: dict[str, Outputs] = {}
    if whole:
        cascade, bound = cascade_facts(cascade_precision), BOUNDS[cascade_precision]
        networks, outputs, boxes = _cascade(cascade, faces, seen or _as_pictures(samples), cascade_precision)
        made += networks
        troubles += [found.trouble(name, bound) for name, found in outputs.items()]
        troubles += [boxes.trouble(bound)] if boxes is not None else []
    troubles = [trouble for trouble in troubles if trouble]
    if troubles and not accept:
        raise ModelError(troubles[0], path=out, advice=_advice(calibrated=samples is not None))
    about = detector_facts(header, made[0].name if whole else out.name, precision)
    parity = {
        "scores": [asdict(score) for score in scores],
        "networks": {name: asdict(found) for name, found in outputs.items()},
        "boxes": None if boxes is None else asdict(boxes),
    }
    text = json.dumps(without_nan(document(about, cascade, parity)), indent=2, ensure_ascii=False)
    files = tuple(_write(each, out / each.name if whole else out) for each in made)
    write_atomically(facts_path, text.encode())
    if whole:
        write_atomically(out / EXAMPLE_FILE, Path(example.__file__).read_bytes())
    shape = f"N×3×{header.picture_size}×{header.picture_size}"
    threads = torch.get_num_threads()
    return Exported(shape, threads, files, facts_path, tuple(scores), outputs, boxes, tuple(troubles))


def _names() -> list[str]:
    return [DETECTOR_FILE, *(f"{name}.onnx" for name in NETWORKS), FACTS_FILE, EXAMPLE_FILE]


def _check_free(out: Path, files: Sequence[Path], *, force: bool) -> None:
    for path in files:
        if path.is_dir() or (path.exists() and not force):
            cause = "is a folder" if path.is_dir() else "is there already"
            raise OutputError(cause, path=path, advice="Choose another place, or use --force.")
    if out.suffix != ".onnx" and out.exists() and not out.is_dir():
        raise OutputError("is a file", path=out, advice="Name a folder, or a file ending with .onnx.")


def _samples(crops: Path | None, seen: Sequence[Pixels], header: Header, faces: FaceDetector) -> Samples | None:
    if crops is not None:
        return prepared_crops(crops, header)
    return faces_of(seen, header, faces) if seen else None


def _as_pictures(samples: Samples | None) -> list[Pixels]:
    """Returns the crops as pictures, alternating between calibration and comparison."""
    if samples is None:
        return []
    return [crop for pair in zip(samples.calibrating, samples.compared, strict=False) for crop in pair]


def _detector(
    module: WholeDetector, detector: Detector, samples: Samples | None, precision: str
) -> tuple[_Converted, list[Scores]]:
    header, names = detector.header, ("logit", "p_fake")
    side = header.picture_size
    free = {name: {0: "batch"} for name in ("crops", *names)}
    plain = to_onnx(module, torch.zeros(2, 3, side, side), "crops", names, free)
    # Random crops widen the ranges, which a few similar faces would leave too narrow; the comparison uses another seed.
    calibrating = [*random_crops(side, side, seed=1), *samples.calibrating] if samples else []
    data = _converted(plain, precision, batches(calibrating) if calibrating else None)
    data = with_property(data, HEADER_KEY, json.dumps(asdict(header), sort_keys=True))
    run = session(data, torch.get_num_threads())
    random = random_crops(side, side)
    scores = [compare_scores(run, detector, random, "random crops")]
    if samples is not None:
        scores.append(compare_scores(run, detector, samples.compared, "the crops", samples.fake))
    one = example.planes(random[:1])
    ours, torchs = _milliseconds(lambda: run.run(None, {"crops": one}), lambda: detector.score(random[:1]))
    return _Converted(DETECTOR_FILE, precision, data, "face", ours, torchs), scores


def _cascade(
    facts: example.Facts, faces: FaceDetector, pictures: Sequence[Pixels], precision: str
) -> tuple[list[_Converted], dict[str, Outputs], Boxes | None]:
    modules = {name: CascadeNetwork(name) for name in NETWORKS}
    plain = {name: _network_onnx(name, module) for name, module in modules.items()}
    threads = torch.get_num_threads()
    recorders = [_Recorder(session(data, threads)) for data in plain.values()]
    if precision == "int8":
        for picture in pictures[::2]:
            example.find_faces(picture, recorders, facts)
    made, outputs, runs = [], {}, []
    for (name, module), recorder in zip(modules.items(), recorders, strict=True):
        data = _converted(plain[name], precision, recorder.inputs if pictures else None)
        runs.append(run := session(data, threads))
        height, width = TIMED[name]
        random = random_crops(width, height)
        outputs[name] = compare_outputs(run, module, random)
        timed = f"{width}×{height}" if name == "pnet" else "candidate"
        feed = {"pictures": example.planes(random[:1])}
        times = _milliseconds(partial(run.run, None, feed), partial(module, torch.from_numpy(feed["pictures"])))
        made.append(_Converted(f"{name}.onnx", precision, data, timed, *times))
    compared = pictures[1::2]
    return made, outputs, compare_boxes(runs, facts, faces, compared) if compared else None


def _network_onnx(name: str, module: CascadeNetwork) -> bytes:
    free = {output: {0: "batch"} for output in ("pictures", *OUTPUTS[name])}
    if name == "pnet":
        free["pictures"] |= {2: "height", 3: "width"}
        free["logit"] |= {1: "rows", 2: "columns"}
        free["offsets"] |= {2: "rows", 3: "columns"}
    return to_onnx(module, example_input(name), "pictures", OUTPUTS[name], free)


class _Recorder:
    """Inference session that records its inputs for calibration."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self.inputs: list[NDArray[np.float32]] = []

    def run(self, outputs: Sequence[str] | None, feed: dict[str, NDArray[np.float32]]) -> Any:
        self.inputs.append(feed["pictures"])
        return self._run.run(outputs, feed)


def _converted(plain: bytes, precision: str, calibrating: Iterable[NDArray[np.float32]] | None) -> bytes:
    if precision == "int8":
        return to_int8(plain, calibrating)
    return to_half(plain) if precision == "fp16" else plain


@torch.inference_mode()
def _milliseconds(*runs: Callable[[], object]) -> tuple[float, ...]:
    """Returns the median time of each function; runs alternate so that other load affects all equally."""
    for run in runs:
        run()
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for times, run in zip(taken, runs, strict=True):
            started = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - started))
    return tuple(median(times) for times in taken)


def _advice(*, calibrated: bool) -> str:
    ways = "--accept writes it nevertheless"
    return f"Nothing was written; {ways if calibrated else f'--crops or --pictures may help, and {ways}'}."


def _write(file: _Converted, path: Path) -> ExportedFile:
    write_atomically(path, file.data)
    return ExportedFile(
        path, file.precision, len(file.data) / 1e6, file.timed, file.milliseconds, file.torch_milliseconds
    )
