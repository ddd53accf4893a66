"""``explain`` as a user meets it: pictures and a table in a folder, regions on the terminal."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tests.people import natural
from torchfakes_cli.cli import app


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which explanations land."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "elsewhere"


def explain(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["explain", *map(str, arguments)], catch_exceptions=False)


def test_a_clip_gives_pictures_a_table_and_regions(clips: Path, model: Path) -> None:
    folder = Path("face.explain")
    ended = explain(clips / "face.mp4", "--model", model, "--frames", 4, "--faces", 2)
    assert ended.exit_code == 0
    assert "FAKE" in ended.stdout
    for region in ("eyes", "nose", "mouth", "chin", "cheeks", "forehead", "outside"):
        assert region in ended.stdout
    assert f"pictures: 2 in {folder}" in ended.stderr
    with (folder / "regions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "averaged over the faces above" in page
    assert page.count("data:image/webp") >= 2
    pictures = sorted(path.name for path in folder.glob("*.png"))
    assert sorted({row["picture"] for row in rows}) == pictures
    assert len(pictures) == 2
    for name in pictures:
        of_it = [row for row in rows if row["picture"] == name]
        assert float(of_it[0]["time_s"]) == pytest.approx(float(name.split("-at-")[1].removesuffix("s.png")))
        for column in ("area_share", "fake_share", "real_share"):
            shares = [float(row[column]) for row in of_it if row[column]]
            assert sum(shares) == pytest.approx(1, abs=0.001) or not shares
        assert cv2.imread(str(folder / name)).shape[1] > 800


@pytest.mark.slow
def test_a_picture_is_explained_too(clips: Path, model: Path) -> None:
    Image.fromarray(natural()).save(clips / "photo.webp", quality=95)
    ended = explain(clips / "photo.webp", "--model", model)
    assert ended.exit_code == 0
    assert "by this one picture" in ended.stdout
    assert sorted(path.name for path in (Path("photo.explain")).iterdir()) == [
        "person-1.png",
        "regions.csv",
        "report.html",
    ]


def test_a_folder_with_other_things_is_left_alone(clips: Path, tmp_path: Path) -> None:
    (Path("face.explain")).mkdir()
    (Path("face.explain") / "diary.txt").touch()
    (tmp_path / "file").touch()
    for arguments, words in (([], "--force"), (["-o", tmp_path / "file"], "no folder")):
        ended = explain(clips / "face.mp4", *arguments, "--model", "never loaded")
        assert ended.exit_code == 1
        (line,) = ended.stderr.splitlines()
        assert words in line


def test_without_a_face_there_is_a_verdict_and_no_file(clips: Path, model: Path) -> None:
    ended = explain(clips / "empty.mp4", "--model", model, "--frames", 3)
    assert ended.exit_code == 0
    assert "INCONCLUSIVE" in ended.stdout
    assert "nothing to explain" in ended.stderr
    assert not (Path("empty.explain")).exists()


def test_what_is_wrong_is_one_line(clips: Path, model: Path, tmp_path: Path) -> None:
    for arguments, code, words in (
        ([clips / "broken.mp4", "--model", model], 1, "broken.mp4: "),
        ([tmp_path / "missing.mp4", "--model", model], 1, "no such file"),
        ([clips], 1, "a folder"),
        ([clips / "face.mp4", "--model", tmp_path / "none.safetensors"], 1, "none.safetensors"),
        ([clips / "face.mp4", "--faces", "0"], 2, "at least one face"),
        (["https://example.org/clip.mp4"], 2, "Download"),
    ):
        ended = explain(*arguments)
        assert ended.exit_code == code
        (line,) = ended.stderr.splitlines()
        assert words in line
    assert not list(Path().glob("*.explain"))
