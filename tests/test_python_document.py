"""The document of the Python API is complete, and its examples do what it says."""

from __future__ import annotations

import doctest
import re
import shutil
from pathlib import Path

import pytest

import torchfakes_cli
from tests.training.crop_folders import write_crops

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "python.md"
#: Sections whose examples take more than a second or two.
SLOW = {"Many videos", "Evidence", "From a corpus to a detector"}

SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)+)", DOCUMENT.read_text(encoding="utf-8"), re.M))
WITH_EXAMPLES = [name for name, text in SECTIONS.items() if ">>>" in text]


@pytest.mark.parametrize(
    "section", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in WITH_EXAMPLES]
)
def test_the_examples_of_a_section(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = tmp_path / "sample_videos"
    samples.mkdir()
    for clip in (ROOT / "sample_videos").glob("*.mp4"):
        shutil.copy(clip, samples)
    shutil.copy(ROOT / "README.md", tmp_path)
    if section == "From a corpus to a detector":
        for clip, folder in (("astronaut_real.mp4", "real/film"), ("astronaut_fake.mp4", "fake/swap")):
            (tmp_path / "corpus" / folder).mkdir(parents=True)
            shutil.copy(samples / clip, tmp_path / "corpus" / folder)
        write_crops(tmp_path / "crops", {"train": 2, "val": 2, "test": 2}, frames=2)
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestParser().get_doctest(SECTIONS[section], {}, section, str(DOCUMENT), 0)
    told: list[str] = []
    doctest.DocTestRunner().run(examples, out=told.append)
    assert not told, "".join(told)


def test_the_table_has_every_public_name_once() -> None:
    names = re.findall(r"^\| `(\w+)` \|", SECTIONS["All names"], re.M)
    assert sorted(names) == sorted(torchfakes_cli.__all__)


def test_every_public_name_is_there_and_documented() -> None:
    for name in set(torchfakes_cli.__all__) - {"__version__"}:
        assert getattr(torchfakes_cli, name).__doc__, name


def test_the_api_has_the_name_of_the_command_too() -> None:
    import torchfakes

    assert torchfakes.scan_video is torchfakes_cli.scan_video
    assert torchfakes.__all__ == torchfakes_cli.__all__
