"""Shell completion of values beyond the fixed choices of an option.

Where none of them begins with what was typed, the shell offers files, which all of these options take as well (but for
devices and kinds of damage). Nothing heavy is imported: a person waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable
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


def devices(incomplete: str) -> list[str]:
    """Complete devices, without checking whether this machine has them."""
    return _beginning(["auto", "cpu", "cuda"], incomplete)


def trackers(incomplete: str) -> list[str]:
    """Complete names of experiment trackers."""
    return _beginning(get_args(TrackerName), incomplete)


def damages(incomplete: str) -> list[str]:
    """Complete kinds of damage to crops."""
    return _beginning([*DAMAGES, "all"], incomplete)


def compressions(incomplete: str) -> list[str]:
    """Complete compressions of FaceForensics++."""
    return _beginning(["raw", "c23", "c40"], incomplete)


def splits(incomplete: str) -> list[str]:
    """Complete ways to split a corpus."""
    return _beginning([PrepareConfig().split, "official"], incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
