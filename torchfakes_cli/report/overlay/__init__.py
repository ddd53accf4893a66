"""What is drawn over a clip: a box and a label for each face, and under the picture the scores over time.

Only numpy, OpenCV and Pillow are needed; where the frames come from and go to is not known here.
"""

from __future__ import annotations

from torchfakes_cli.report.overlay.drawing import Overlay
from torchfakes_cli.report.overlay.people import Person, Word
from torchfakes_cli.report.overlay.scorebar import Headline

__all__ = ["Headline", "Overlay", "Person", "Word"]
