"""Makes ``scan.svg``, the picture at the top of the README: what a scan of the samples prints.

python sample_videos/make_picture.py
"""

from __future__ import annotations

import io
from contextlib import chdir
from pathlib import Path

from rich.console import Console
from rich.text import Text

from torchfakes_cli import scan_video
from torchfakes_cli.cli.console import verdict_panel
from torchfakes_cli.detector.detector import load_detector


def main() -> None:
    """Scan the three samples and draw the terminal."""
    folder = Path(__file__).resolve().parent
    detector = load_detector(device="cpu")
    console = Console(record=True, width=84, file=io.StringIO(), force_terminal=True, highlight=False)
    with chdir(folder.parent):
        for clip in sorted(Path(folder.name).glob("*.mp4")):
            console.print(Text(f"$ torchfakes scan {clip}", style="bold"))
            console.print(verdict_panel(scan_video(clip, detector=detector)))
    console.save_svg(str(folder.parent / "docs/images/scan.svg"), title="torchfakes")


if __name__ == "__main__":
    main()
