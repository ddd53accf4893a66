"""A page in the browser over the same scan: a video goes in, its verdict and the evidence come out.

``Examiner`` does the work and knows no page; ``page`` is the only module that imports Gradio, an extra.
"""

from __future__ import annotations

from torchfakes_cli.demo.examiner import Examiner, Finding
from torchfakes_cli.demo.page import serve

__all__ = ["Examiner", "Finding", "serve"]
