"""Reports for people: a page on one video that needs nothing but itself, and an index of many.

Names are loaded when first used: a scan without pages needs neither Jinja2 nor Matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchfakes_cli.report.page.index import INDEX, IndexRow, row_of_earlier, row_of_result, write_index
    from torchfakes_cli.report.page.page import write_page
    from torchfakes_cli.report.page.rendering import is_ours

_HOME = {
    "INDEX": "index",
    "IndexRow": "index",
    "is_ours": "rendering",
    "row_of_earlier": "index",
    "row_of_result": "index",
    "write_index": "index",
    "write_page": "page",
}

__all__ = ["INDEX", "IndexRow", "is_ours", "row_of_earlier", "row_of_result", "write_index", "write_page"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
