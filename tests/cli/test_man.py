"""Manual pages say what the help says, in roff that its readers take."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from tests.cli.test_help import COMMANDS, MODELS_COMMANDS
from torchfakes_cli.cli import app
from torchfakes_cli.cli.man import man_pages

PAGES = man_pages(get_command(app))


def plain(page: str) -> str:
    return page.replace(r"\-", "-").replace(r"\&", "")


def test_every_command_has_a_page() -> None:
    names = ["", *(f"-{name}" for name in COMMANDS), *(f"-models-{name}" for name in MODELS_COMMANDS)]
    assert PAGES.keys() == {f"torchfakes{name}.1" for name in names}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_every_option_of_the_help(name: str) -> None:
    command = name.removesuffix(".1").split("-")[1:]
    help_text = CliRunner().invoke(app, [*command, "-h"], env={"COLUMNS": "200"}).output
    options = set(re.findall(r"(?<=[│ ])--[a-z][a-z0-9-]+", help_text))
    assert "--help" in options
    assert options <= set(re.findall(r"--[a-z][a-z0-9-]+", plain(PAGES[name])))


def test_choices_defaults_and_headings_are_there() -> None:
    page = plain(PAGES["torchfakes-train.1"])
    assert re.search(r"^\.B --optimizer .adamw\|adam\|sgd.\nWhat moves the weights\. \[default: adamw\]$", page, re.M)
    assert "\n.SS How it learns\n" in page


def test_pages_are_ascii_and_no_text_is_taken_for_a_request() -> None:
    for page in PAGES.values():
        assert page.isascii()
        for line in page.splitlines():
            assert line
            assert line[0] != "'"
            assert line[0] != "." or re.match(r"\.(TH|SH|SS|PP|TP|B)\b", line)
    assert r"\[u2026]" in PAGES["torchfakes-serve.1"]  # help that ends in an ellipsis


@pytest.mark.skipif(not shutil.which("groff"), reason="needs groff")
def test_groff_renders_them_without_a_warning(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["man", "--out", str(tmp_path / "man1")])
    assert result.output == f"{len(PAGES)} pages in {tmp_path / 'man1'}\n"
    pages = sorted((tmp_path / "man1").iterdir())
    assert {page.name for page in pages} == PAGES.keys()
    command = ["groff", "-man", "-Tutf8", "-P-c", "-P-b", "-P-u", "-ww", *pages]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True)
    assert rendered.stderr == ""
    assert "       --blur-threshold X\n" in rendered.stdout.replace("\N{MINUS SIGN}", "-")


def test_one_page_is_printed() -> None:
    result = CliRunner().invoke(app, ["man", "models", "fetch"])
    assert result.output == PAGES["torchfakes-models-fetch.1"]
    assert CliRunner().invoke(app, ["man"]).output == PAGES["torchfakes.1"]


@pytest.mark.parametrize("arguments", [["bogus"], ["scan", "--out", "pages"]])
def test_wrong_usage_is_code_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["man", *arguments]).exit_code == 2


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["man", "--out", str(tmp_path / "file")])
    assert result.exit_code == 1
    assert "can't be written" in result.stderr
