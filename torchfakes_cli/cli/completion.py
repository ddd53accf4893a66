"""Shell completion of values beyond the fixed choices of an option.

Where no value begins with what was typed, the shell offers files, which most of these options take as well. Nothing
heavy is imported, because a person waits for the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import get_args

from torchfakes_cli.training.config import PrepareConfig, TrackerName

#: What ``evaluate --robustness`` takes, as ``training.evaluate.perturb`` names it; importing that needs OpenCV.
DAMAGES = ("h264", "jpeg", "blur", "noise", "resize", "blocks", "saturation", "contrast")


def detector_names(incomplete: str) -> list[str]:
    """Complete names of installed detectors."""
    from torchfakes_cli.detector.registry import SHIPPED_NAME, installed

    return _beginning([SHIPPED_NAME, *installed()], incomplete)


def fetchable_names(incomplete: str) -> list[str]:
    """Complete names of detectors that can be fetched."""
    from torchfakes_cli.detector.registry import PUBLISHED

    return _beginning(PUBLISHED, incomplete)


def starts(incomplete: str) -> list[str]:
    """Complete weights that a training can start from."""
    return _beginning(["vggface2", "imagenet", "scratch", *detector_names("")], incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _among(*names: str) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return _beginning(names, incomplete)

    return complete


devices = _among("auto", "cpu", "cuda")
trackers = _among(*get_args(TrackerName))
damages = _among(*DAMAGES, "all")
compressions = _among("raw", "c23", "c40")
splits = _among(PrepareConfig().split, "official")
