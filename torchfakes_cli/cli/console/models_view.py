"""Tables and descriptions of detectors and exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.markdown import Markdown

from torchfakes_cli.cli.console.screen import Screen, texts_table
from torchfakes_cli.report.formatting import safe

if TYPE_CHECKING:
    from torchfakes_cli.detector.checkpoint import Header
    from torchfakes_cli.detector.registry import Verified
    from torchfakes_cli.export.folder import Exported

#: Largest number of characters of a value from a header's free parts.
LONGEST = 600


def show_header(screen: Screen, words: Mapping[str, Mapping[str, str]]) -> None:
    """Show groups of names and values: a table on a terminal, one a line elsewhere."""
    if screen.is_terminal:
        screen.result(texts_table(("", ""), {group: list(entries.items()) for group, entries in words.items()}))
        return
    for group, entries in words.items():
        for name, value in entries.items():
            screen.line(safe(f"{group}: {name}: {value}" if name else f"{group}: {value}"))


def show_card(screen: Screen, card: str) -> None:
    """Show a model card: rendered on a terminal, as plain text elsewhere."""
    if screen.is_terminal:
        screen.result(Markdown(card))
    else:
        screen.line(card)


def checksum_words(checked: Verified) -> str:
    """Describe the checksum of a verified detector; empty if its file can't be read."""
    if not checked.sha256:
        return ""
    compared = "as recorded" if checked.recorded == checked.sha256 else "not the recorded one"
    return f"SHA-256 {checked.sha256[:16]}…, {compared if checked.recorded else 'none is recorded'}"


def input_words(header: Header) -> str:
    """Describe the preprocessing of a face."""
    from torchfakes_cli.detector.preprocess import MEAN, SCALE

    ranges = {
        (MEAN, SCALE): f"standardised, (x − {MEAN:g}) / {SCALE:g}",
        (0.0, 255.0): "from 0 to 1",
        (0.0, 1.0): "from 0 to 255",
    }
    side = header.picture_size
    shape = "a square around the box" if header.crop_shape == "square" else "the box itself, stretched to a square"
    grown = "without margin" if header.margin == 1 else f"{header.margin:g} times as large"
    enlarged = f", enlarged bilinearly to {header.input_size}" if side != header.input_size else ""
    values = ranges.get((header.mean, header.scale), f"(x − {header.mean:g}) / {header.scale:g}")
    coarse = f"; less {header.coarse_weight:g} times the logit of a coarse copy" if header.coarse_weight else ""
    return f"{shape}, {grown}, at {side} pixels{enlarged}; RGB {values}{coarse}"


def threshold_words(header: Header) -> str:
    """Describe the thresholds and the calibration."""
    bounds = f"fake from {header.fake_above:.3g} on, real below {header.real_below:.3g}"
    if header.calibrated_on:
        return f"{bounds}; p_fake calibrated on {header.calibrated_on}"
    if doubt := header.training.get("calibration"):
        return f"{bounds}; not calibrated: {doubt}"
    if (header.slope, header.intercept) == (1.0, 0.0):
        return f"{bounds}; not calibrated: p_fake is the plain sigmoid of the logit"
    return f"{bounds}; the data of the calibration is unknown"


def header_words(header: Header) -> dict[str, dict[str, str]]:
    """Describe everything in a header, by group and name."""
    from torchfakes_cli.detector.calibration import error_rates
    from torchfakes_cli.report.summary import error_rates_sentence

    rates = error_rates(header)
    measured = {**({"error rates": error_rates_sentence(rates)} if rates else {}), **_metrics(header.metrics)}
    return {
        "detector": {
            "calls itself": header.name,
            "architecture": f"{header.architecture}, one logit, fake above zero",
            "licence": header.licence or "unknown: ask its makers before you use it",
            "made": f"{header.created or 'at an unknown time'}, torchfakes {header.version or 'unknown'}",
        },
        "input": {"crop": input_words(header)},
        "verdicts": {"thresholds": threshold_words(header)},
        "training": {str(name): _in_short(value) for name, value in header.training.items()} or {"": "unknown"},
        "measured": measured or {"": "nothing: no figures of it are known"},
    }


def _metrics(metrics: Mapping[str, object]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in metrics.items():
        if not isinstance(value, Mapping):
            found[str(name)] = _in_short(value)
            continue
        rest = dict(value)
        interval, methods, auc = (rest.pop(key, None) for key in ("video_auc_interval", "by_method", "video_auc"))
        if auc is not None:
            bounds = interval if isinstance(interval, Sequence) and len(interval) == 2 else ()
            within = f" (95 % interval {_flat(bounds[0])}–{_flat(bounds[1])})" if bounds else ""
            found[f"{name}: video AUC"] = _flat(auc) + within
        if rest:
            found[f"{name}: more" if auc is not None else str(name)] = _in_short(rest)
        if methods:
            found[f"{name}: video AUC by method"] = _in_short(methods)
    return found


def _in_short(value: object) -> str:
    """Return a JSON value on one line."""
    text = _flat(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _flat(value: object, *, inside: bool = False) -> str:
    if isinstance(value, Mapping):
        parts = ((name, part) for name, part in value.items() if part not in (None, "", {}))
        text = ", ".join(f"{name} {_flat(part, inside=True)}" for name, part in parts)
        return f"({text})" if inside else text
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) > 20:  # such as the marks of training data
            return f"{len(value)} entries"
        return "; ".join(_flat(part) for part in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show_export(screen: Screen, made: Exported) -> None:
    """Show the files of an export and their differences from torch."""
    scores = made.scores[0]
    differences = {made.files[0].path.stem: (scores.largest, scores.mean)}
    differences |= {name: (found.largest, found.mean) for name, found in made.outputs.items()}
    columns = ("file", "", "MB", "differs by", "mean", "ms", "torch fp32", "for")
    rows = []
    for file in made.files:
        largest, mean = differences[file.path.stem]
        times = (f"{file.milliseconds:.2f}", f"{file.torch_milliseconds:.2f}", file.timed)
        rows.append((file.path.name, file.precision, f"{file.megabytes:.2f}", f"{largest:.2g}", f"{mean:.2g}", *times))
    screen.result(texts_table(columns, {"": rows}))
    for score in made.scores:
        words = [
            f"log-odds differ by {score.largest:.2g} at most and {score.mean:.2g} on average",
            f"{score.verdicts:.1%} of verdicts are the same",
        ]
        if score.rank is not None:
            words.append(f"rank correlation {score.rank:.4f}")
        if score.auc is not None:
            words.append(f"AUC {score.auc:.4f}, torch's {score.auc_torch:.4f}")
        screen.line(f"{score.count} {score.on.removeprefix('the ')}: {'; '.join(words)}")
    if (boxes := made.boxes) is not None:
        overlap = "" if boxes.overlap is None else f"; these boxes overlap by {boxes.overlap:.3f} on average"
        found = f"torch finds {boxes.torch} faces and the files {boxes.files}, {boxes.both} of them the same"
        screen.line(f"{boxes.pictures} pictures: {found}{overlap}")
    threads = "1 thread" if made.threads == 1 else f"{made.threads} threads"
    screen.note(f"the detector takes crops {made.input_shape}, RGB from 0 to 255; {made.facts} describes the rest")
    screen.note(f"differences are to torch, on random input; times are medians with {threads}")
