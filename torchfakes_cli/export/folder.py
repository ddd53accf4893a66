"""An export: files converted, compared with torch, and only then written."""

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
from torchfakes_cli.faces.cascade import FaceDetector
from torchfakes_cli.files import write_atomically

DETECTOR_FILE, FACTS_FILE, EXAMPLE_FILE = "detector.onnx", "torchfakes.json", "example.py"
#: Times that a file runs for its latency, after a first one that doesn't count.
ROUNDS = 15
#: What the latency of a network is told for, as (height, width): a level of a pyramid, or one candidate.
TIMED = {"pnet": (180, 320), "rnet": (24, 24), "onet": (48, 48)}

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A file, and what it costs here.

    Attributes:
        path: of the file.
        precision: of its weights.
        megabytes: of 10⁶ bytes.
        timed: what the latencies are of.
        milliseconds: median of one run.
        torch_milliseconds: likewise of torch in float32.
    """

    path: Path
    precision: str
    megabytes: float
    timed: str
    milliseconds: float
    torch_milliseconds: float


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export made.

    Attributes:
        input_shape: of the detector, as a user reads it.
        threads: that the latencies were measured with.
        files: the ONNX files; the detector first.
        facts: the JSON beside them.
        scores: the detector's parity, on random crops and on those that were given.
        outputs: parity of the cascade's networks on random pictures, by name.
        boxes: parity of the cascade on pictures; None where none were given.
        doubts: what a user should be warned of.
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
    """A file that is not written yet."""

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
    """Write a detector, and into a folder the cascade that finds faces as well, as ONNX files, compared with torch.

    The detector's input ``crops`` is N×3×S×S float32, RGB from 0 to 255, N free; its outputs are ``logit`` and
    ``p_fake``, N each. Its header stands in the file's metadata.

    Args:
        model: path or name, as ``load_detector`` takes it.
        out: a file ending with ``.onnx`` for the detector alone (and a JSON file beside it), else a folder.
        precision: of the detector: ``fp32``, ``fp16`` or ``int8``.
        cascade_precision: None for the same, but ``fp16`` beside ``int8``: the three networks are small, and boxes that
            lie a little elsewhere change scores more than the detector's own eight bits do.
        crops: a folder that ``prepare`` made: to calibrate int8 with, and to compare on.
        pictures: a folder of pictures with faces, for the cascade; for the detector as well where no crops are given.
        force: replace files.
        accept: write whatever the comparison says.

    Raises:
        UsageError: ONNX's libraries are not installed, or there is no such precision.
        ModelNotFoundError: there is no such detector.
        CheckpointError: it can't be used.
        DataError: the crops or pictures can't be used.
        ModelError: the files' answers are too far from torch's; nothing is written.
        OutputError: a file is there, or can't be written.
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
    """Crops as small pictures, those that calibrate in turn with those that are compared."""
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
    # Random crops as well, others than those that are compared: a few faces alike would leave the ranges too narrow.
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
    """A session that remembers what it is given."""

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
    """Median of each, taken in turn, so that what else the machine does falls on all."""
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
