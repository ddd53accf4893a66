from __future__ import annotations

import json
from pathlib import Path

import pytest

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora import read_corpus, select
from torchfakes_cli.training.corpora.base import Corpus, SourceVideo, summarized


def _touch(root: Path, *names: str) -> Path:
    """Empty files: a corpus is read by its names; what is in a file matters only when its turn comes."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def _by_name(corpus: Corpus) -> dict[str, SourceVideo]:
    return {video.video: video for video in corpus.videos}


ORIGINAL = "original_sequences/youtube/c23/videos/{}.mp4"
FAKE = "manipulated_sequences/{}/c23/videos/{}.mp4"


@pytest.fixture
def faceforensics(tmp_path: Path) -> Path:
    originals = [ORIGINAL.format(number) for number in ("000", "001", "002", "003", "004")]
    fakes = [FAKE.format(method, pair) for method in ("Deepfakes", "FaceSwap") for pair in ("000_003", "003_000")]
    return _touch(tmp_path, *originals, *fakes, FAKE.format("Deepfakes", "001_002"))


def test_faceforensics_fake_has_its_targets_group(faceforensics: Path) -> None:
    videos = _by_name(read_corpus(faceforensics))
    fake = videos["manipulated_sequences/Deepfakes/c23/videos/003_000"]
    assert (fake.label, fake.method, fake.compression) == ("fake", "Deepfakes", "c23")
    assert fake.source == "original_sequences/youtube/c23/videos/003"


def test_faceforensics_pairs_are_one_group(faceforensics: Path) -> None:
    groups = {video.path.stem: video.group for video in read_corpus(faceforensics).videos}
    assert groups["000"] == groups["003"] == groups["000_003"] == groups["003_000"]
    assert groups["001"] == groups["002"] == groups["001_002"]
    assert len({groups["000"], groups["001"], groups["004"]}) == 3


def test_faceforensics_strays_are_listed_and_masks_are_not(faceforensics: Path) -> None:
    _touch(
        faceforensics,
        "manipulated_sequences/Deepfakes/masks/videos/000_003.mp4",
        ORIGINAL.format("000 (1)"),
        FAKE.format("Deepfakes", "notes"),
        "original_sequences/youtube/c23/videos/Thumbs.db",
        "original_sequences/youtube/c23/videos/._000.mp4",
    )
    corpus = read_corpus(faceforensics)
    assert len(corpus.videos) == 10
    assert sorted(Path(skipped.name).name for skipped in corpus.skipped) == ["000 (1).mp4", "Thumbs.db", "notes.mp4"]


def test_missing_pairs_are_noted(faceforensics: Path) -> None:
    note = next(note for note in read_corpus(faceforensics).notes if "lacks" in note)
    assert "FaceSwap c23 lacks 1 of the 3 pairs" in note
    assert "001_002" in note


def test_compressions_pair_with_their_own(faceforensics: Path) -> None:
    _touch(
        faceforensics,
        "original_sequences/youtube/c40/videos/000.mp4",
        "manipulated_sequences/Deepfakes/c40/videos/000_003.mp4",
    )
    corpus = read_corpus(faceforensics)
    fake = _by_name(corpus)["manipulated_sequences/Deepfakes/c40/videos/000_003"]
    assert fake.source == "original_sequences/youtube/c40/videos/000"
    assert {video.compression for video in select(corpus, compression="c40")} == {"c40"}
    assert len({video.group for video in corpus.videos if video.path.stem == "000"}) == 1
    with pytest.raises(DataError, match=r"Found: c23, c40\."):
        select(corpus, compression="raw")


def test_actors_are_groups_and_fakes_have_partners(tmp_path: Path) -> None:
    _touch(
        tmp_path,
        "original_sequences/actors/c23/videos/01__kitchen_still.mp4",
        "original_sequences/actors/c23/videos/01__walking.mp4",
        "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__walking__YVGY8LOK.mp4",
    )
    videos = _by_name(read_corpus(tmp_path))
    fake = videos["manipulated_sequences/DeepFakeDetection/c23/videos/01_02__walking__YVGY8LOK"]
    assert (fake.group, fake.partner) == ("actor:01", "actor:02")
    assert fake.source == "original_sequences/actors/c23/videos/01__walking"
    assert {video.group for video in videos.values()} == {"actor:01"}


def test_select_methods_in_any_case(faceforensics: Path) -> None:
    corpus = read_corpus(faceforensics)
    chosen = select(corpus, methods=["faceswap"])
    assert {video.method for video in chosen} == {"youtube", "FaceSwap"}
    with pytest.raises(DataError, match=r"made by sora\. Found: Deepfakes, FaceSwap"):
        select(corpus, methods=["Sora"])


def test_select_limit_per_method(faceforensics: Path) -> None:
    chosen = select(read_corpus(faceforensics), limit=1)
    assert sorted(video.method for video in chosen) == ["Deepfakes", "FaceSwap", "youtube"]


CELEB = "Celeb-synthesis/{}.mp4"


@pytest.fixture
def celebdf(tmp_path: Path) -> Path:
    _touch(
        tmp_path,
        *("Celeb-real/id0_0000.mp4", "Celeb-real/id0_0001.mp4", "Celeb-real/id1_0000.mp4", "YouTube-real/00170.mp4"),
        *(CELEB.format("id0_id1_0000"), CELEB.format("id1_id0_0007"), CELEB.format("readme")),
    )
    # There is no header, and a mark of 1 means real.
    lines = "1 YouTube-real/00170.mp4\n0 Celeb-synthesis/id1_id0_0007.mp4\n1 Celeb-real/id9_0000.mp4\n"
    (tmp_path / "List_of_testing_videos.txt").write_text(lines)
    return tmp_path


def test_celebrities_are_groups_and_fakes_have_partners(celebdf: Path) -> None:
    corpus = read_corpus(celebdf)
    videos = _by_name(corpus)
    fake = videos["Celeb-synthesis/id0_id1_0000"]
    assert (fake.label, fake.source) == ("fake", "Celeb-real/id0_0000")
    assert (fake.group, fake.partner) == ("celebrity:id0", "celebrity:id1")
    assert videos["Celeb-real/id0_0001"].group == fake.group
    assert videos["YouTube-real/00170"].label == "real"
    assert [skipped.name for skipped in corpus.skipped] == [CELEB.format("readme")]
    assert any("Celeb-real 3 of 590" in note for note in corpus.notes)
    assert any("1 of 2 fakes have no original here" in note and "id1_id0_0007" in note for note in corpus.notes)
    assert not any(video.split for video in corpus.videos)


def test_celebdf_list_has_no_header(celebdf: Path) -> None:
    corpus = read_corpus(celebdf, split="official")
    tested = {name for name, video in _by_name(corpus).items() if video.split == "test"}
    assert tested == {"YouTube-real/00170", "Celeb-synthesis/id1_id0_0007"}
    assert any("1 of 3 names on the official lists aren't here: celeb-real/id9_0000" in note for note in corpus.notes)


def test_celebdf_list_of_another_form_is_an_error(celebdf: Path) -> None:
    (celebdf / "List_of_testing_videos.txt").write_text("real YouTube-real/00170.mp4\n")
    with pytest.raises(DataError, match="has lines other than '1 <video>'"):
        read_corpus(celebdf, split="official")


def test_celebdf_plus_methods_are_folders(tmp_path: Path) -> None:
    _touch(tmp_path, "Celeb-real/videos/id0_0000.mp4", "Celeb-synthesis/FaceSwap/SimSwap/id0_id1_0000.mp4")
    videos = _by_name(read_corpus(tmp_path))
    fake = videos["Celeb-synthesis/FaceSwap/SimSwap/id0_id1_0000"]
    assert (fake.method, fake.source) == ("SimSwap", "Celeb-real/videos/id0_0000")


def _dfdc_part(root: Path, part: int, **entries: dict[str, str]) -> None:
    folder = root / f"dfdc_train_part_{part}"
    _touch(folder, *(f"{name}.mp4" for name in entries))
    (folder / "metadata.json").write_text(json.dumps({f"{name}.mp4": entry for name, entry in entries.items()}))


def test_dfdc_part_names_originals(tmp_path: Path) -> None:
    real, fake = {"label": "REAL", "split": "train"}, {"label": "FAKE", "split": "train", "original": "b.mp4"}
    _dfdc_part(tmp_path, 0, a=fake, b=real, c={"label": "?"}, d={"split": "train"})
    _touch(tmp_path, "dfdc_train_part_0/stray.mp4")
    for name in "cd":
        (tmp_path / f"dfdc_train_part_0/{name}.mp4").write_text(name)
    corpus = read_corpus(tmp_path)
    videos = _by_name(corpus)
    assert videos["dfdc_train_part_0/a"].source == "dfdc_train_part_0/b"
    assert videos["dfdc_train_part_0/a"].group == videos["dfdc_train_part_0/b"].group
    assert {Path(skipped.name).name for skipped in corpus.skipped} == {"stray.mp4", "c.mp4", "d.mp4"}
    assert any("the same actor may be in two splits" in note for note in corpus.notes)
    with pytest.raises(DataError, match="holds none of the official test videos"):
        read_corpus(tmp_path, split="official")


def test_dfdc_parts_are_groups(tmp_path: Path) -> None:
    for part in range(4):
        _dfdc_part(tmp_path, part, **{f"r{part}": {"label": "REAL"}, f"q{part}": {"label": "REAL"}})
    groups = {video.group for video in read_corpus(tmp_path).videos}
    assert groups == {f"part:dfdc_train_part_{part}" for part in range(4)}


@pytest.mark.parametrize("folder", ["test", "test_videos"])
def test_dfdc_test_set(tmp_path: Path, folder: str) -> None:
    """Its table lies among the videos, or beside their folder."""
    _dfdc_part(tmp_path, 0, a={"label": "REAL"})
    _touch(tmp_path / folder, "x.mp4", "y.mp4")
    table = tmp_path / ("test/labels.csv" if folder == "test" else "labels.csv")
    table.write_text("filename,label\nx.mp4,1\ny.mp4,0\nz.mp4,0\n")
    corpus = read_corpus(tmp_path)
    assert {v.path.name: (v.label, v.split) for v in corpus.videos} == {
        "a.mp4": ("real", ""),
        "x.mp4": ("fake", "test"),
        "y.mp4": ("real", "test"),
    }
    assert corpus.rest == ("train", "val")
    assert any("1 of 3 listed videos aren't there: z.mp4" in note for note in corpus.notes)


def test_dfdc_preview_people_are_groups(tmp_path: Path) -> None:
    listed = {
        "method_A/1_2/1_2_0.mp4": {"label": "fake", "set": "train", "target_id": 1, "swapped_id": 2},
        "original_videos/1/1_0.mp4": {"label": "real", "set": "test", "target_id": 1, "swapped_id": None},
        "original_videos/3/3_0.mp4": {"label": "real", "set": "train", "target_id": 3},
    }
    _touch(tmp_path, *list(listed)[:2])
    (tmp_path / "dataset.json").write_text(json.dumps(listed))
    corpus = read_corpus(tmp_path)
    fake = _by_name(corpus)["method_A/1_2/1_2_0"]
    assert (fake.method, fake.group, fake.partner, fake.split) == ("method_A", "person:1", "person:2", "")
    assert _by_name(corpus)["original_videos/1/1_0"].split == "test"
    assert any("1 of 3 listed videos aren't there" in note for note in corpus.notes)


def test_metadata_of_another_program_is_not_dfdc(tmp_path: Path) -> None:
    _touch(tmp_path, "real/a.mp4")
    (tmp_path / "real/metadata.json").write_text('{"camera": {"name": "x"}}')
    assert read_corpus(tmp_path).layout == "folders"


@pytest.fixture
def deeperforensics(tmp_path: Path) -> Path:
    root = tmp_path / "deeper"
    _touch(
        root,
        *(f"manipulated_videos/{variant}/000_M004.mp4" for variant in ("end_to_end", "end_to_end_level_1")),
        *("manipulated_videos/end_to_end/017_M004.mp4", "manipulated_videos/end_to_end/031_W101.mp4"),
        *("manipulated_videos/stray.mp4", "source_videos/M004/x.mp4"),
    )
    (root / "lists/splits").mkdir(parents=True)
    for split, text in (("train", "000_M004.mp4\n017_M004.mp4\n"), ("val", ""), ("test", "031_W101.mp4\n")):
        (root / f"lists/splits/{split}.txt").write_text(text)
    return root


def test_deeperforensics_advises_reals(deeperforensics: Path) -> None:
    corpus = read_corpus(deeperforensics)
    assert len(corpus.videos) == 4
    groups = {video.path.stem: video.group for video in corpus.videos}
    assert groups["000_M004"] == groups["017_M004"] != groups["031_W101"]
    assert any("4 of 4 fakes have no original here" in note and "--reals" in note for note in corpus.notes)
    assert [skipped.name for skipped in corpus.skipped] == ["manipulated_videos/stray.mp4"]


def test_deeperforensics_originals_from_faceforensics(deeperforensics: Path, faceforensics: Path) -> None:
    _touch(faceforensics, "original_sequences/youtube/raw/videos/000.mp4")
    corpus = read_corpus(deeperforensics, [faceforensics], "official")
    videos = _by_name(corpus)
    original = f"{faceforensics.name}/original_sequences/youtube/c23/videos/000"
    assert videos["manipulated_videos/end_to_end_level_1/000_M004"].source == original
    assert videos["manipulated_videos/end_to_end/031_W101"].split == "test"
    assert videos[original].group == videos["manipulated_videos/end_to_end/017_M004"].group
    # Of FaceForensics++ only the originals count as genuine, and of them one compression.
    assert {name for name in videos if "manipulated_sequences" in name or "/raw/" in name} == set()


def _pair_lists(folder: Path, **pairs: list[list[str]]) -> Path:
    folder.mkdir()
    for split, listed in pairs.items():
        (folder / f"{split}.json").write_text(json.dumps(listed))
    return folder


def test_official_pairs_place_originals_and_fakes(faceforensics: Path, tmp_path: Path) -> None:
    lists = _pair_lists(tmp_path / "lists", train=[["000", "003"]], val=[["001", "004"]], test=[["002", "999"]])
    corpus = read_corpus(faceforensics, split=f"official:{lists}")
    splits = {(video.path.stem, video.method): video.split for video in corpus.videos}
    for method in ("Deepfakes", "FaceSwap"):
        assert splits["000_003", method] == splits["003_000", method] == "train"
    assert splits["000", "youtube"] == splits["003", "youtube"] == "train"
    assert (splits["001", "youtube"], splits["002", "youtube"]) == ("val", "test")
    # A fake that joins two of the lists doesn't make one group of their people.
    crossing = next(video for video in corpus.videos if video.path.stem == "001_002")
    assert (crossing.split, crossing.group, crossing.partner) == ("", "youtube:001", "youtube:002")


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({}, r"holds no train\.json, val\.json or test\.json"),
        ({"train": [["000", "003"]], "val": [["003", "001"]]}, "003 is in train.json, too"),
        ({"train": {"000": "003"}}, "is no list of pairs"),
    ],
)
def test_wrong_official_lists_are_errors(
    faceforensics: Path, tmp_path: Path, lists: dict[str, list[list[str]]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_corpus(faceforensics, split=f"official:{_pair_lists(tmp_path / 'lists', **lists)}")


def test_missing_official_list_is_noted(faceforensics: Path, tmp_path: Path) -> None:
    corpus = read_corpus(faceforensics, split=f"official:{_pair_lists(tmp_path / 'lists', test=[['002', '001']])}")
    assert corpus.rest == ("train", "val")
    assert any("val.json is missing" in note for note in corpus.notes)


def test_folders_have_no_official_split(tmp_path: Path) -> None:
    _touch(tmp_path, "real/a.mp4")
    with pytest.raises(DataError, match="folders have no official splits"):
        read_corpus(tmp_path, split="official")


def test_groups_table_joins_groups(faceforensics: Path, tmp_path: Path) -> None:
    table = tmp_path / "footage.csv"
    table.write_text("video,group\n001,interview\n004,interview\n777,interview\n")
    corpus = read_corpus(faceforensics, groups=table)
    assert not any("is not used" in note for note in corpus.notes)
    assert any(note.startswith("footage.csv is not used") for note in read_corpus(faceforensics).notes)
    groups = {video.path.stem: video.group for video in corpus.videos}
    assert groups["004"] == groups["001"] == groups["002"] != groups["000"]
    assert any("footage.csv names what isn't here, in 1 lines: 777" in note for note in corpus.notes)


def test_splits_table_by_video_or_path(faceforensics: Path, tmp_path: Path) -> None:
    table = tmp_path / "splits.csv"
    table.write_text(f"path,video,split,group\n{ORIGINAL.format('000')},,test,\n,004,val,x\n,001,,x\n")
    corpus = read_corpus(faceforensics, split=str(table))
    videos = {video.path.stem: video for video in corpus.videos}
    assert (videos["000"].split, videos["004"].split, videos["001"].split) == ("test", "val", "")
    assert videos["001"].group == videos["004"].group
    assert any("are not in splits.csv and go where their people are" in note for note in corpus.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video\n000\n", r"lacks the columns video \(or path\) and split"),
        ("video,split\n000,holdout\n", "unknown split 'holdout' in line 2"),
        ("video,split\n000,val\n000,test\n", "line 3 puts .*/000 into test, an earlier one into val"),
    ],
)
def test_wrong_splits_table_is_an_error(faceforensics: Path, tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "splits.csv"
    table.write_text(text)
    with pytest.raises(DataError, match=message):
        read_corpus(faceforensics, split=str(table))


def test_unknown_split_is_an_error(faceforensics: Path) -> None:
    with pytest.raises(DataError, match=r"can't be read .*Expected groups, official, or a CSV file"):
        read_corpus(faceforensics, split="random")


def test_folders_give_label_and_method(tmp_path: Path) -> None:
    _touch(tmp_path, "real/film/a.mp4", "real/b.png", "fake/swap/a.mp4", "fake/swap/deep/c.gif", "fake/swap/notes.txt")
    videos = _by_name(read_corpus(tmp_path))
    assert {name: (v.label, v.method, v.source) for name, v in videos.items()} == {
        "real/b": ("real", "real", ""),
        "real/film/a": ("real", "film", ""),
        "fake/swap/a": ("fake", "swap", "real/film/a"),
        "fake/swap/deep/c": ("fake", "swap", ""),
    }
    assert videos["fake/swap/a"].group == videos["real/film/a"].group


def test_names_are_unique(tmp_path: Path) -> None:
    _touch(tmp_path, "real/a.mp4", "real/a.mov", "fake/x/a.mp4")
    assert {video.video for video in read_corpus(tmp_path).videos} == {"real/a", "real/a.mp4", "fake/x/a"}


def test_ambiguous_original_is_none(tmp_path: Path) -> None:
    _touch(tmp_path, "real/one/a.mp4", "real/two/a.mp4", "fake/x/a.mp4")
    assert _by_name(read_corpus(tmp_path))["fake/x/a"].source == ""


def test_table_lists_the_corpus(tmp_path: Path) -> None:
    _touch(tmp_path, "real/a.mp4", "real/b.mp4", "fake/x/c.mp4", "fake/x/left_out.mp4")
    (tmp_path / "clips.csv").write_text(
        "path,label,method,group,source,split\n"
        "real/a.mp4,real,phone,Anna,,test\n"
        "real/b.mp4,0,,,,\n"
        "fake/x/c.mp4,fake,,,real/a.mp4,\n"
        "fake/x/gone.mp4,fake,,,,\n",
        encoding="utf-8",
    )
    (tmp_path / "other.csv").write_text("frame,x,y\n", encoding="utf-8")
    corpus = read_corpus(tmp_path)
    videos = _by_name(corpus)
    assert (videos["real/a"].method, videos["real/a"].group, videos["real/a"].split) == ("phone", "Anna", "test")
    assert (videos["real/b"].label, videos["real/b"].method, videos["real/b"].group) == ("real", "real", "b")
    assert videos["fake/x/c"].source == "real/a"
    # Named as its original, it is the same footage, whatever the table says of groups.
    assert videos["fake/x/c"].group == videos["real/a"].group
    assert {(skipped.name, skipped.reason) for skipped in corpus.skipped} == {
        ("fake/x/gone.mp4", "is listed in clips.csv but not there"),
        ("fake/x/left_out.mp4", "is not listed in clips.csv"),
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("real/a.mp4,genuine,", "unknown label 'genuine' in line 2"),
        ("real/a.mp4,real,holdout", "unknown split 'holdout' in line 2"),
        ("real/a.mp4,real,\nreal/a.mp4,fake,", r"line 3 names real/a\.mp4 again"),
    ],
)
def test_wrong_table_is_an_error(tmp_path: Path, row: str, message: str) -> None:
    _touch(tmp_path, "real/a.mp4")
    (tmp_path / "clips.csv").write_text(f"path,label,split\n{row}\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_corpus(tmp_path)


def test_copies_join_groups(tmp_path: Path) -> None:
    _touch(tmp_path, "real/a.mp4", "real/copy.mp4", "fake/x/a.mp4", "fake/x/copy.mp4")
    (tmp_path / "real/a.mp4").write_bytes(b"same")
    (tmp_path / "real/copy.mp4").write_bytes(b"same")
    (tmp_path / "fake/x/a.mp4").write_bytes(b"one fake")
    (tmp_path / "fake/x/copy.mp4").write_bytes(b"other fk")
    corpus = read_corpus(tmp_path)
    videos = _by_name(corpus)
    assert set(videos) == {"real/a", "fake/x/a", "fake/x/copy"}
    assert videos["fake/x/copy"].source == "real/a"
    assert len({video.group for video in videos.values()}) == 1
    assert [(s.name, s.detail) for s in corpus.skipped] == [("real/copy", "real/a")]


def test_copies_of_many_files_are_one_line(tmp_path: Path) -> None:
    for number in range(3):
        for name in (f"real/{number}.mp4", f"real/{number}-copy.mp4"):
            _touch(tmp_path, name).joinpath(name).write_bytes(b"%d" % number)
    _touch(tmp_path, "fake/x/genuine.mp4").joinpath("fake/x/genuine.mp4").write_bytes(b"1")
    lines = summarized(read_corpus(tmp_path).skipped)
    assert lines == [
        "real/0-copy and 2 more: has the same content as another file",
        "fake/x/genuine: has the same content as a genuine file: real/1",
    ]


def test_reals_are_grouped_by_shared_number(tmp_path: Path) -> None:
    corpus = _touch(tmp_path / "corpus", "real/a.mp4")
    reals = _touch(
        tmp_path / "stills",
        *("london/neutral_front_001_03.jpg", "london/smiling_front_001_03.jpg", "london/neutral_front_002_03.jpg"),
        *("officials/mary-2019.jpg", "officials/ann.jpg", "portrait.png", "landmarks.csv", "._portrait.png"),
    )
    videos = _by_name(read_corpus(corpus, [reals]))
    groups = {name: video.group for name, video in videos.items() if name.startswith("stills/")}
    assert len(groups) == 6
    assert groups["stills/london/neutral_front_001_03"] == groups["stills/london/smiling_front_001_03"]
    assert len(set(groups.values())) == 5
    assert {video.method for name, video in videos.items() if name in groups} == {"stills"}
    assert {video.label for video in videos.values()} == {"real"}


def test_reals_table_names_people(tmp_path: Path) -> None:
    corpus = _touch(tmp_path / "corpus", "real/a.mp4")
    reals = _touch(tmp_path / "more", "ann.jpg", "ann-old.jpg", "bob.jpg")
    (reals / "people.csv").write_text("path,group\nann.jpg,Ann\nann-old.jpg,Ann\n", encoding="utf-8")
    videos = _by_name(read_corpus(corpus, [reals]))
    assert videos["more/ann"].group == videos["more/ann-old"].group != videos["more/bob"].group


def test_reals_of_the_corpus_are_not_added_again(tmp_path: Path) -> None:
    corpus = _touch(tmp_path / "corpus", "real/a.mp4", "real/b.mp4")
    assert len(read_corpus(corpus, [corpus / "real", corpus / "real"]).videos) == 2


def test_reals_folders_of_one_name(tmp_path: Path) -> None:
    corpus = _touch(tmp_path / "corpus", "real/a.mp4")
    first, second = _touch(tmp_path / "x/more", "a.jpg"), _touch(tmp_path / "y/more", "a.jpg")
    assert len(_by_name(read_corpus(corpus, [first, second]))) == 3


@pytest.mark.skipif(not hasattr(Path, "symlink_to"), reason="needs links")
def test_loop_of_links(tmp_path: Path) -> None:
    _touch(tmp_path, "real/a.mp4")
    try:
        (tmp_path / "real" / "again").symlink_to(tmp_path / "real", target_is_directory=True)
    except OSError:
        pytest.skip("links aren't allowed here")
    assert len(read_corpus(tmp_path).videos) == 1


def test_unknown_layout_is_an_error(tmp_path: Path) -> None:
    _touch(tmp_path, "videos/a.mp4")
    with pytest.raises(DataError, match=r"found videos/\. Known are FaceForensics\+\+ .* real/ and fake/<method>/"):
        read_corpus(tmp_path)


@pytest.mark.parametrize("folder", ["real", "original_sequences"])
def test_empty_corpus_is_an_error(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    with pytest.raises(DataError, match="holds no video"):
        read_corpus(tmp_path)


def test_missing_corpus_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        read_corpus(tmp_path / "nowhere")
