"""Description of the exported files for apps, written as JSON next to them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.export.cascade import NETWORKS
from torchfakes_cli.faces.mtcnn import STAGE_OVERLAP, STAGE_THRESHOLDS
from torchfakes_cli.faces.networks import MEAN, OUTPUT_SIDE, REFINE_SIDE, SCALE
from torchfakes_cli.faces.options import SHARPNESS_SIZE, FaceConfig
from torchfakes_cli.faces.pyramid import GRAY, PROPOSAL_CELL, PROPOSAL_STRIDE, PYRAMID_FACTOR
from torchfakes_cli.scan.config import VerdictConfig
from torchfakes_cli.version import __version__

#: Version of the document's format.
FORMAT = 1


def detector_facts(header: Header, file: str, precision: str) -> dict[str, Any]:
    """Describes the detector's file."""
    faces, verdict = FaceConfig(), VerdictConfig()
    return {
        "file": file,
        "precision": precision,
        "name": header.name,
        "licence": header.licence,
        "input": {
            "name": "crops",
            "shape": ["N", 3, header.picture_size, header.picture_size],
            "type": "float32",
            "values": "RGB from 0 to 255",
            "size": header.picture_size,
        },
        "outputs": ["logit", "p_fake"],
        "in_the_file": {
            "normalisation": {"mean": header.mean, "scale": header.scale, "formula": "(value - mean) / scale"},
            "enlarged_to": header.input_size,
            "calibration": {
                "slope": header.slope,
                "intercept": header.intercept,
                "formula": "p_fake = 1 / (1 + exp(-(slope * logit + intercept)))",
            },
        },
        "crop": {"shape": header.crop_shape, "margin": header.margin, "beyond": 0},
        "sharpness": {"size": SHARPNESS_SIZE, "blurry_below": faces.blur_threshold},
        "fake_above": header.fake_above,
        "real_below": header.real_below,
        "video": {"faces_at_least": verdict.min_faces, "trimmed_at_each_end": verdict.trim},
    }


def cascade_facts(precision: str) -> dict[str, Any]:
    """Describes the cascade's three files."""
    config = FaceConfig()
    return {
        "files": [f"{name}.onnx" for name in NETWORKS],
        "precision": precision,
        "input": {"name": "pictures", "shape": ["N", 3, "H", "W"], "type": "float32", "values": "RGB from 0 to 255"},
        "in_the_file": {"normalisation": {"mean": MEAN, "scale": SCALE, "formula": "(value - mean) / scale"}},
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
        "formulas": {
            "level": "side * cell / min_face * factor ** n, rounded to an even number, while the shorter is >= cell",
            "window": "x1 = floor((stride * column + 1) * ratio), x2 = floor((stride * column + cell) * ratio); "
            "ratio = width / width of the level; the same for y",
            "box": "x1 += offsets[0] * side, y1 += offsets[1] * side, x2 += offsets[2] * side, y2 += offsets[3] * "
            "side; side = x2 - x1 or y2 - y1 for the first network, 1 more for the others",
            "landmark": "x = x1 - 1 + landmarks[n] * side, y = y1 - 1 + landmarks[5 + n] * side; before the box moves",
            "cut": "the square from (x1 - 1, y1 - 1) to (x2, y2)",
        },
    }


def document(
    detector: Mapping[str, Any], cascade: Mapping[str, Any] | None, parity: Mapping[str, Any]
) -> dict[str, Any]:
    """Assembles the JSON document."""
    parts = {"detector": detector} if cascade is None else {"detector": detector, "cascade": cascade}
    return {"format": FORMAT, "made_by": f"torchfakes {__version__}", **parts, "parity": parity}


def without_nan(value: Any) -> Any:
    """Replaces NaN by None in a document, because JSON has no NaN."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
