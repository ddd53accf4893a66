from __future__ import annotations

from pathlib import Path

import pytest

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora import Corpus, SourceVideo, read_corpus, select


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


def test_a_fake_belongs_to_the_video_whose_frames_it_shows(faceforensics: Path) -> None:
    videos = _by_name(read_corpus(faceforensics))
    fake = videos["manipulated_sequences/Deepfakes/c23/videos/003_000"]
    assert (fake.label, fake.method, fake.compression) == ("fake", "Deepfakes", "c23")
    assert fake.source == "original_sequences/youtube/c23/videos/003"


def test_originals_that_share_a_fake_are_one_group(faceforensics: Path) -> None:
    groups = {video.path.stem: video.group for video in read_corpus(faceforensics).videos}
    assert groups["000"] == groups["003"] == groups["000_003"] == groups["003_000"]
    assert groups["001"] == groups["002"] == groups["001_002"]
    assert len({groups["000"], groups["001"], groups["004"]}) == 3


def test_masks_are_no_videos_and_strays_are_listed(faceforensics: Path) -> None:
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


def test_what_one_method_lacks_is_noted(faceforensics: Path) -> None:
    note = next(note for note in read_corpus(faceforensics).notes if "lacks" in note)
    assert "FaceSwap c23 lacks 1 of the 3 pairs" in note
    assert "001_002" in note


def test_compressions_stay_apart_and_pair_with_their_own(faceforensics: Path) -> None:
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


def test_actors_are_groups_and_their_fakes_know_both(tmp_path: Path) -> None:
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


def test_methods_are_chosen_in_any_case_and_reals_stay(faceforensics: Path) -> None:
    corpus = read_corpus(faceforensics)
    chosen = select(corpus, methods=["faceswap"])
    assert {video.method for video in chosen} == {"youtube", "FaceSwap"}
    with pytest.raises(DataError, match=r"made by sora\. Found: Deepfakes, FaceSwap"):
        select(corpus, methods=["Sora"])


def test_a_limit_counts_for_each_method(faceforensics: Path) -> None:
    chosen = select(read_corpus(faceforensics), limit=1)
    assert sorted(video.method for video in chosen) == ["Deepfakes", "FaceSwap", "youtube"]


def test_folders_name_label_and_method(tmp_path: Path) -> None:
    _touch(tmp_path, "real/film/a.mp4", "real/b.png", "fake/swap/a.mp4", "fake/swap/deep/c.gif", "fake/swap/notes.txt")
    videos = _by_name(read_corpus(tmp_path))
    assert {name: (v.label, v.method, v.source) for name, v in videos.items()} == {
        "real/b": ("real", "real", ""),
        "real/film/a": ("real", "film", ""),
        "fake/swap/a": ("fake", "swap", "real/film/a"),
        "fake/swap/deep/c": ("fake", "swap", ""),
    }
    assert videos["fake/swap/a"].group == videos["real/film/a"].group


def test_names_stay_unique_where_only_the_suffix_differs(tmp_path: Path) -> None:
    _touch(tmp_path, "real/a.mp4", "real/a.mov", "fake/x/a.mp4")
    assert {video.video for video in read_corpus(tmp_path).videos} == {"real/a", "real/a.mp4", "fake/x/a"}


def test_two_candidates_are_no_original(tmp_path: Path) -> None:
    _touch(tmp_path, "real/one/a.mp4", "real/two/a.mp4", "fake/x/a.mp4")
    assert _by_name(read_corpus(tmp_path))["fake/x/a"].source == ""


def test_a_table_is_the_list_of_the_corpus(tmp_path: Path) -> None:
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
def test_a_table_that_makes_no_sense_is_refused(tmp_path: Path, row: str, message: str) -> None:
    _touch(tmp_path, "real/a.mp4")
    (tmp_path / "clips.csv").write_text(f"path,label,split\n{row}\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_corpus(tmp_path)


def test_copies_are_taken_once_and_join_their_groups(tmp_path: Path) -> None:
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
    assert [(s.name, s.reason) for s in corpus.skipped] == [("real/copy", "has the same content as real/a")]


def test_further_reals_are_grouped_by_the_number_they_share(tmp_path: Path) -> None:
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
    assert videos["stills/london/neutral_front_001_03"].method == "london"
    assert videos["stills/portrait"].method == "stills"
    assert {video.label for video in videos.values()} == {"real"}


def test_a_table_beside_further_reals_names_people(tmp_path: Path) -> None:
    corpus = _touch(tmp_path / "corpus", "real/a.mp4")
    reals = _touch(tmp_path / "more", "ann.jpg", "ann-old.jpg", "bob.jpg")
    (reals / "people.csv").write_text("path,group\nann.jpg,Ann\nann-old.jpg,Ann\n", encoding="utf-8")
    videos = _by_name(read_corpus(corpus, [reals]))
    assert videos["more/ann"].group == videos["more/ann-old"].group != videos["more/bob"].group


def test_further_reals_are_not_taken_twice(tmp_path: Path) -> None:
    corpus = _touch(tmp_path / "corpus", "real/a.mp4", "real/b.mp4")
    assert len(read_corpus(corpus, [corpus / "real", corpus / "real"]).videos) == 2


def test_folders_of_one_name_stay_apart(tmp_path: Path) -> None:
    corpus = _touch(tmp_path / "corpus", "real/a.mp4")
    first, second = _touch(tmp_path / "x/more", "a.jpg"), _touch(tmp_path / "y/more", "a.jpg")
    assert len(_by_name(read_corpus(corpus, [first, second]))) == 3


@pytest.mark.skipif(not hasattr(Path, "symlink_to"), reason="needs links")
def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    _touch(tmp_path, "real/a.mp4")
    try:
        (tmp_path / "real" / "again").symlink_to(tmp_path / "real", target_is_directory=True)
    except OSError:
        pytest.skip("links aren't allowed here")
    assert len(read_corpus(tmp_path).videos) == 1


def test_an_unknown_layout_is_described(tmp_path: Path) -> None:
    _touch(tmp_path, "videos/a.mp4")
    with pytest.raises(DataError, match=r"found videos/\. Known are FaceForensics\+\+ .* real/ and fake/<method>/"):
        read_corpus(tmp_path)


@pytest.mark.parametrize("folder", ["real", "original_sequences"])
def test_an_empty_corpus_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    with pytest.raises(DataError, match="holds no video"):
        read_corpus(tmp_path)


def test_a_missing_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        read_corpus(tmp_path / "nowhere")
