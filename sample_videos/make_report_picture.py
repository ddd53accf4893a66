"""Makes ``report.webp``, the picture of a report in the README: the top of the page on one of the samples.

It takes Chromium and ``pip install '.[browser]'``::

    python sample_videos/make_report_picture.py
"""

from __future__ import annotations

import io
import shutil
import tempfile
from contextlib import chdir
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from torchfakes_cli import scan_video, write_report
from torchfakes_cli.detector.detector import load_detector

_CLIP = "astronaut_fake.mp4"
_WIDTH = 1060
_SHOWN = 0.4


def main() -> None:
    """Scan a sample, open its report, and keep what is seen down to the first person."""
    folder = Path(__file__).resolve().parent
    clip = f"{folder.name}/{_CLIP}"
    with tempfile.TemporaryDirectory() as place, chdir(folder.parent):
        page = Path(place, "report.html")
        command = f"torchfakes scan {clip} --report report.html"
        write_report(page, scan_video(clip, detector=load_detector()), command=command)
        shot = Image.open(io.BytesIO(_photograph(page)))
    size = round(shot.width * _SHOWN), round(shot.height * _SHOWN)
    shot.resize(size, Image.Resampling.LANCZOS).save(folder.parent / "docs/images/report.webp", quality=82, method=6)


def _photograph(path: Path) -> bytes:
    """The page as PNG, from its top to the end of the first person's card."""
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": _WIDTH, "height": 800}, device_scale_factor=2)
        page.goto(path.as_uri())
        card = page.locator(".card").first.bounding_box()
        assert card is not None
        area = {"x": 0, "y": 0, "width": _WIDTH, "height": card["y"] + card["height"] + 24}
        shot = page.screenshot(full_page=True, clip=area)
        chromium.close()
    return shot


if __name__ == "__main__":
    main()
