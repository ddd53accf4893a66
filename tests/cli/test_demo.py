"""The page in the browser: what a visitor gives and gets, and what is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import pytest
from typer.testing import CliRunner

from tests.clips import barcode_frames, write_clip
from tests.people import natural
from tests.report.browser import chromium
from torchfakes_cli.cli import app
from torchfakes_cli.demo.config import DemoConfig
from torchfakes_cli.demo.page import Examiner
from torchfakes_cli.errors import MediaError, UsageError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FileChooser, Page

needs_gradio = pytest.mark.skipif(find_spec("gradio") is None, reason="needs the extra demo")


@dataclass(frozen=True, slots=True)
class Served:
    """A demo that runs: its address, its folder for uploads, and its process."""

    address: str
    uploads: Path
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def served(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("temporary")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torchfakes_cli", "demo", "--port", str(port), "--model", str(model)]
    command += ["--max-minutes", "0.5", "--device", "cpu"]
    environment = {**os.environ, "TMPDIR": str(folder), "TEMP": str(folder)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None
        address = run.stdout.readline().strip()
        assert address == f"http://127.0.0.1:{port}/"
        yield Served(address, folder, run)
        run.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    page = browser.new_page()
    page.set_default_timeout(120_000)
    page.goto(served.address)
    page.wait_for_selector("#start")
    yield page
    page.close()


def give(page: Page, path: Path) -> None:
    page.set_input_files("#given input[type=file]", str(path))
    page.locator("#given").get_by_text(path.stem).first.wait_for()
    page.click("#start")


@pytest.mark.slow
@needs_gradio
def test_a_video_gives_a_verdict_and_its_evidence_and_is_deleted(page: Page, served: Served, clips: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    give(page, clips / "face.mp4")
    said = page.locator("#verdict [role=status] .word")
    said.wait_for()
    assert "Fake" in said.inner_text()
    assert "Person 1 looks synthetic" in page.inner_text("#verdict")
    assert "A high score is no proof of forgery." in page.inner_text("#verdict")
    assert "Next: Look closely at" in page.inner_text("#verdict")
    report = page.frame_locator("iframe.report")
    report.locator("h1").wait_for()
    assert report.locator("h1").inner_text() == "face.mp4"
    assert report.locator("svg").count() >= 1
    assert report.locator("img[alt*='fake']").count() >= 1
    assert "What it can't do" in report.locator("body").inner_text()
    assert str(served.uploads) not in report.locator("body").inner_text()
    assert not report.locator("section.verdict").is_visible()  # it stands above
    assert page.locator("#shown video").evaluate("video => video.videoWidth") == 640
    with page.expect_download() as download:
        page.click("#report a.download")
    assert download.value.suggested_filename == "face.report.html"
    assert "A high score is no proof of forgery." in download.value.path().read_text(encoding="utf-8")
    tall = page.locator("iframe.report").bounding_box()
    assert tall is not None
    assert tall["height"] > 1500  # all of it, without a second scroll bar
    assert all(url.startswith((served.address, "data:", "blob:")) for url in asked)
    assert not list(served.uploads.rglob("face*"))


@pytest.mark.slow
@needs_gradio
def test_a_picture_gives_a_verdict_that_says_what_it_rests_on(page: Page, clips: Path) -> None:
    cv2.imwrite(str(clips / "still.png"), natural()[..., ::-1])
    give(page, clips / "still.png")
    page.locator("#verdict .word").wait_for()
    assert "by this one picture" in page.inner_text("#verdict")


@pytest.mark.slow
@needs_gradio
def test_what_can_not_be_scanned_costs_one_line(page: Page, served: Served, clips: Path) -> None:
    assert page.locator("#start").is_disabled()
    alert = page.locator("#verdict [role=alert]")
    give(page, clips / "broken.mp4")
    alert.get_by_text("broken.mp4: text, not a video").wait_for()
    long = write_clip(clips / "long.mp4", barcode_frames(40), fps=1)
    give(page, long)
    alert.get_by_text(
        "long.mp4: the video is 40.0 s long, and 30 s are allowed. Cut it to the part that matters."
    ).wait_for()
    assert page.locator("iframe.report").count() == 0
    assert not list(served.uploads.rglob("*.mp4"))


@pytest.mark.slow
@needs_gradio
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_in_the_way_of_any_reader(browser: Browser, served: Served, clips: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra browser")
    with browser.new_page(color_scheme=scheme) as page:
        page.set_default_timeout(120_000)
        page.goto(served.address)
        page.wait_for_selector("#start")
        # Colors on their way from one to another are nobody's.
        page.add_style_tag(content="* { transition: none !important; animation: none !important; }")
        broken = axe.Axe().run(page).response["violations"]
        page.set_input_files("#given input[type=file]", str(clips / "face.mp4"))
        page.wait_for_function("!document.getElementById('start').disabled")
        broken += axe.Axe().run(page).response["violations"]
        page.click("#start")
        page.frame_locator("iframe.report").locator("h1").wait_for()
        broken += axe.Axe().run(page).response["violations"]
        assert [rule["id"] for rule in broken] == []


@pytest.mark.slow
@needs_gradio
def test_all_of_it_can_be_done_by_keyboard(page: Page, clips: Path) -> None:
    assert page.get_attribute("html", "lang") == "en"
    assert page.locator("h1").count() == 1
    page.wait_for_load_state("networkidle")
    for _ in range(16):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('#given button')"):
            break
    assert page.evaluate("document.activeElement.matches('#given button')")
    choosers: list[FileChooser] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    for _ in range(20):  # on a busy machine the button is seen before it works
        page.keyboard.press("Enter")
        page.wait_for_timeout(3000)
        if choosers:
            break
    choosers[0].set_files(str(clips / "empty.mp4"))
    page.locator("#given").get_by_text("empty").first.wait_for()
    page.wait_for_function("!document.getElementById('start').disabled")
    for _ in range(8):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id === 'start'"):
            break
    page.keyboard.press("Enter")
    page.locator("#verdict .inconclusive").wait_for()
    assert "No face was found" in page.inner_text("#verdict")


@pytest.mark.slow
@needs_gradio
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_when_it_ends_no_upload_is_left(browser: Browser, served: Served, clips: Path) -> None:
    page = browser.new_page()
    page.goto(served.address)
    page.set_input_files("#given input[type=file]", str(clips / "face.mp4"))
    page.wait_for_function("!document.getElementById('start').disabled")
    assert list(served.uploads.rglob("face.mp4"))
    page.close()
    served.process.send_signal(signal.SIGTERM)
    _, told = served.process.communicate(timeout=60)
    assert served.process.returncode == 0
    assert told.splitlines()[-1] == "ended; what was uploaded is deleted"
    assert not list(served.uploads.rglob("face.mp4"))


@pytest.mark.slow
def test_the_examiner_keeps_limits_and_goes_on_after_a_bad_file(clips: Path, model: Path) -> None:
    told: list[str] = []

    def tell(what: str, done: int, wanted: int | None) -> None:
        told.append(what)

    with closing(Examiner(DemoConfig(most_mb=1, most_minutes=0.1), model=model)) as examiner:
        big = clips / "big.mp4"
        big.write_bytes(bytes(1_100_000))
        with pytest.raises(UsageError, match=r"it has 1\.1 MB, and 1 may be given here"):
            examiner.examine(big, tell)
        with pytest.raises(MediaError):
            examiner.examine(clips / "broken.mp4", tell)
        found = examiner.examine(clips / "face.mp4", tell)
    assert found.summary.verdict == "fake"
    assert "face.mp4" in found.report
    assert str(clips) not in found.report
    assert told[0] == "opening"
    assert told[-1] == "gathering the evidence"


def test_only_loopback_is_loopback() -> None:
    assert all(DemoConfig(host=host).is_loopback for host in ("127.0.0.1", "localhost", "::1", "127.8.0.1"))
    assert not any(DemoConfig(host=host).is_loopback for host in ("0.0.0.0", "192.168.1.5", "example.org", "::"))


@pytest.mark.parametrize("wrong", [("--port", "0"), ("--max-size", "0"), ("--max-minutes", "0")])
def test_wrong_limits_are_wrong_usage(wrong: tuple[str, str]) -> None:
    assert CliRunner().invoke(app, ["demo", *wrong]).exit_code == 2
