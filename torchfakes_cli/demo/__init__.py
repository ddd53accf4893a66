"""A page in the browser over the same scan: a video goes in, its verdict and the evidence come out.

``Examiner`` does the work and knows no page; ``page`` is the only module that knows Gradio, an extra.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchfakes_cli.demo.examiner import Examiner, Finding
    from torchfakes_cli.demo.page import serve

_HOME = {"Examiner": "examiner", "Finding": "examiner", "serve": "page"}

__all__ = ["Examiner", "Finding", "serve"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
