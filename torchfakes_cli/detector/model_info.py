"""Descriptions of checkpoints: the contents of a header in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torchfakes_cli.detector.checkpoint import Header
from torchfakes_cli.detector.figures import error_rates
from torchfakes_cli.detector.preprocess import MEAN, SCALE

#: Largest number of characters of a value from a header's free parts.
LONGEST = 600
#: Largest number of entries of a list that are shown; the marks of training data are many more.
LONGEST_LIST = 20

_RANGES = {
    (MEAN, SCALE): f"standardised, (x − {MEAN:g}) / {SCALE:g}",
    (0.0, 255.0): "from 0 to 1",
    (0.0, 1.0): "from 0 to 255",
}


def input_words(header: Header) -> str:
    """Describe the preprocessing of a face."""
    side = header.picture_size
    shape = "a square around the box" if header.crop_shape == "square" else "the box itself, stretched to a square"
    grown = "without margin" if header.margin == 1 else f"{header.margin:g} times as large"
    enlarged = f", enlarged bilinearly to {header.input_size}" if side != header.input_size else ""
    values = _RANGES.get((header.mean, header.scale), f"(x − {header.mean:g}) / {header.scale:g}")
    return f"{shape}, {grown}, at {side} pixels{enlarged}; RGB {values}"


def threshold_words(header: Header) -> str:
    """Describe the thresholds and the calibration."""
    bounds = f"fake from {header.fake_above:.3g} on, real below {header.real_below:.3g}"
    if header.calibrated_on:
        return f"{bounds}; p_fake calibrated on {header.calibrated_on}"
    if doubt := header.training.get("calibration"):
        return f"{bounds}; not calibrated: {doubt}"
    if (header.slope, header.intercept) == (1.0, 0.0):
        return f"{bounds}; not calibrated: p_fake is the plain sigmoid of the logit"
    return f"{bounds}; nobody said what the calibration was fitted on"


def header_words(header: Header) -> dict[str, dict[str, str]]:
    """Describe everything in a header, by group and name."""
    return {
        "detector": {
            "calls itself": header.name,
            "architecture": f"{header.architecture}, one logit, fake above zero",
            "licence": header.licence or "unknown: ask its makers before you use it",
            "made": f"{header.created or 'at an unknown time'}, torchfakes {header.version or 'unknown'}",
        },
        "input": {"crop": input_words(header)},
        "verdicts": {"thresholds": threshold_words(header)},
        "training": {str(name): in_short(value) for name, value in header.training.items()} or {"": "unknown"},
        "measured": _measured(header) or {"": "nothing: no figures of it are known"},
    }


def _measured(header: Header) -> dict[str, str]:
    rates = error_rates(header)
    return {**({"error rates": rates.sentence()} if rates else {}), **_metrics(header.metrics)}


def in_short(value: object) -> str:
    """Return a JSON value on one line."""
    return _cut(_flat(value))


def _flat(value: object, *, inside: bool = False) -> str:
    if isinstance(value, Mapping):
        parts = ((name, part) for name, part in value.items() if part not in (None, "", {}))
        text = ", ".join(f"{name} {_flat(part, inside=True)}" for name, part in parts)
        return f"({text})" if inside else text
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) > LONGEST_LIST:
            return f"{len(value)} entries"
        return "; ".join(_flat(part) for part in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _metrics(metrics: Mapping[str, object]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in metrics.items():
        if not isinstance(value, Mapping):
            found[str(name)] = in_short(value)
            continue
        rest = dict(value)
        interval = rest.pop("video_auc_interval", None)
        methods = rest.pop("by_method", None)
        auc = rest.pop("video_auc", None)
        if auc is not None:
            bounds = interval if isinstance(interval, Sequence) and len(interval) == 2 else ()
            within = f" (95 % interval {_flat(bounds[0])}–{_flat(bounds[1])})" if bounds else ""
            found[f"{name}: video AUC"] = _flat(auc) + within
        if rest:
            found[f"{name}: more" if auc is not None else str(name)] = in_short(rest)
        if methods:
            found[f"{name}: video AUC by method"] = in_short(methods)
    return found
