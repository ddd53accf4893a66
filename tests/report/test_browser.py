"""Pages in a real browser: for every eye, by keyboard, on a phone, on paper, and without a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.report.browser import chromium
from tests.report.pages import FILE, PROVENANCE, crowd
from tests.report.results import failure, result
from torchfakes_cli.facts import Credentials, CredentialsState, Fact
from torchfakes_cli.report.columns import batch_row
from torchfakes_cli.report.html.page import index_row, page_of, write_index

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of a film with people, one without, and an index of both and of a file that failed."""
    folder = tmp_path_factory.mktemp("pages")
    credentials = Credentials(CredentialsState.INVALID, (Fact("signed by", "Somebody"),), ("hash mismatch",))
    film, faces = crowd(300, 8, faces_each=2)
    film = replace(film, path="b.mp4", warnings=("partial: 2 of 5 frames",))
    page = page_of(film, PROVENANCE, faces=faces, file=replace(FILE, credentials=credentials))
    (folder / "b.html").write_text(page, encoding="utf-8")
    plain = result("a.mp4")
    (folder / "a.html").write_text(page_of(plain, PROVENANCE), encoding="utf-8")
    rows = [
        index_row(batch_row(plain), folder / "a.html", folder),
        index_row(batch_row(failure()), None, folder),
        index_row(batch_row(film), folder / "b.html", folder),
    ]
    write_index(folder / "index.html", rows, PROVENANCE, "tested")
    return folder


def window(browser: Browser, *, width: int = 1000, scheme: str = "light", script: bool = True) -> Page:
    """An empty window of a reader who prefers light or dark, with or without scripts."""
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=script,
    )
    return context.new_page()


@pytest.mark.parametrize("name", ["a.html", "b.html", "index.html"])
def test_a_page_asks_for_nothing_but_itself_and_keeps_its_policy(browser: Browser, folder: Path, name: str) -> None:
    page = window(browser)
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    address = (folder / name).as_uri()
    page.goto(address)
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert complaints == []
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
    # What the policy forbids really doesn't happen.
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))")
    page.wait_for_timeout(200)
    assert [complaint for complaint in complaints if "Content Security Policy" in complaint]


@pytest.mark.parametrize("name", ["a.html", "b.html", "index.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1000, 360])
def test_an_accessibility_checker_finds_nothing(
    browser: Browser, folder: Path, name: str, scheme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra browser")
    page = window(browser, width=width, scheme=scheme)
    page.goto((folder / name).as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("name", ["b.html", "index.html"])
def test_a_narrow_screen_needs_no_sideways_scrolling(browser: Browser, folder: Path, name: str) -> None:
    page = window(browser, width=320)
    page.goto((folder / name).as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_dark_and_light_are_told_apart_by_the_plot_as_well(browser: Browser, folder: Path) -> None:
    colors = []
    for scheme in ("light", "dark"):
        page = window(browser, scheme=scheme)
        page.goto((folder / "b.html").as_uri())
        colors.append(
            page.evaluate(
                "['body', '.wide text', '.wide path[stroke]']"
                ".map((each) => getComputedStyle(document.querySelector(each)))"
                ".map((style) => style.backgroundColor + style.fill + style.stroke)"
            )
        )
    assert all(light != dark for light, dark in zip(*colors, strict=True))


def test_a_page_works_by_keyboard(browser: Browser, folder: Path) -> None:
    page = window(browser)
    page.goto((folder / "b.html").as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
    page.keyboard.press("Enter")
    assert page.locator("details tbody tr").first.is_visible()


def test_the_index_sorts_by_keyboard_and_stands_without_a_script(browser: Browser, folder: Path) -> None:
    page = window(browser)
    page.goto((folder / "index.html").as_uri())

    def names() -> list[str]:
        return page.locator("tbody th").all_text_contents()[:3]

    assert names() == ["a.mp4", "broken.mp4", "b.mp4"]
    page.get_by_role("button", name="verdict").focus()
    page.keyboard.press("Enter")
    assert names() == ["b.mp4", "a.mp4", "broken.mp4"]
    assert page.locator("th[aria-sort=descending]").all_text_contents() == ["verdict"]
    page.keyboard.press("Enter")
    assert names() == ["broken.mp4", "a.mp4", "b.mp4"]
    page.get_by_role("button", name="p_fake").click()
    page.get_by_role("button", name="p_fake").click()
    assert names() == ["a.mp4", "b.mp4", "broken.mp4"]  # what has no score stays last
    page.get_by_role("link", name="b.mp4").click()
    assert page.url.endswith("/b.html")
    plain = window(browser, script=False)
    plain.goto((folder / "index.html").as_uri())
    assert plain.locator("thead button").count() == 0
    assert plain.locator("thead th").first.text_content() == "file"


def test_on_paper_it_is_light_whole_and_has_no_controls(browser: Browser, folder: Path) -> None:
    page = window(browser, scheme="dark")
    page.goto((folder / "b.html").as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("summary").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")
