from __future__ import annotations

from pathlib import Path

import pytest

from torchfakes_cli.scan.output_paths import explanation_folder, mirrored_paths, output_names


@pytest.mark.parametrize(
    ("present", "video", "expected"),
    [
        ([], "clip.mp4", "clip.timeline.csv"),
        (["other.mp4", "clip.txt"], "clip.mp4", "clip.timeline.csv"),
        (["clip.mov"], "clip.mp4", "clip.mp4.timeline.csv"),
        (["CLIP.mp4"], "clip.mp4", "clip.mp4.timeline.csv"),
        (["clip.mov", "clip.mp4"], "clip.mp4.mkv", "clip.mp4.mkv.timeline.csv"),
    ],
)
def test_a_timeline_is_named_after_its_clip(tmp_path: Path, present: list[str], video: str, expected: str) -> None:
    for name in [*present, video]:
        (tmp_path / name).touch()
    path = str(tmp_path / video)
    assert output_names([path]) == {path: tmp_path / expected}


def test_no_two_clips_share_a_timeline(tmp_path: Path) -> None:
    names = ["a.mp4", "a.mov", "a.mp4.mov", "b.mp4", "c/a.mp4", "odd.xyz", "odd.mp4"]
    (tmp_path / "c").mkdir()
    for name in names:
        (tmp_path / name).touch()
    places = output_names([str(tmp_path / name) for name in names])
    assert len(set(places.values())) == len(names)


def test_timelines_of_their_own_folder_mirror_the_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["one/a.mp4", "one/b/a.mp4", "one/b/a.mov", "two/a.mp4"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    places = mirrored_paths(names[:3], ["one"], "out")
    assert [place.as_posix() for place in places.values()] == [
        "out/a.timeline.csv",
        "out/b/a.mp4.timeline.csv",
        "out/b/a.mov.timeline.csv",
    ]
    places = mirrored_paths([names[0], "./two/a.mp4"], ["one", "./two"], "out")
    assert [place.as_posix() for place in places.values()] == ["out/one/a.timeline.csv", "out/two/a.timeline.csv"]
    monkeypatch.chdir(tmp_path / "two")
    assert mirrored_paths(["a.mp4"], ["a.mp4"], "out") == {"a.mp4": Path("out/a.timeline.csv")}


def test_no_two_files_share_an_explanation(tmp_path: Path) -> None:
    names = ["a.mp4", "b.mp4", "b.mov", "a.jpg", "c.jpg", "c.png", "d.webp"]
    for name in names:
        (tmp_path / name).touch()
    places = [explanation_folder(str(tmp_path / name)).name for name in names]
    assert len(set(places)) == len(names)
    assert places[0] == "a.explain"
    assert places[-1] == "d.explain"
