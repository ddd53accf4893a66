"""Lists of a corpus as spreadsheets and scripts write them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora import Corpus, read_corpus

PLAIN = (
    "path,label,group,split\n"
    "real/1.mp4,real,Anna,train\n"
    "real/2.mp4,real,Bert,test\n"
    "fake/x/1.mp4,fake,Anna,train\n"
    "fake/x/2.mp4,fake,Bert,test\n"
)
FILES = ("real/1.mp4", "real/2.mp4", "fake/x/1.mp4", "fake/x/2.mp4")


def _files(root: Path, *names: str) -> Path:
    """Files without a video in them: a corpus is read by its names."""
    for name in names or FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def _known(corpus: Corpus) -> dict[str, tuple[str, str, str]]:
    return {video.video: (video.label, video.group, video.split) for video in corpus.videos}


EXPECTED = {
    "real/1": ("real", "Anna", "train"),
    "real/2": ("real", "Bert", "test"),
    "fake/x/1": ("fake", "Anna", "train"),
    "fake/x/2": ("fake", "Bert", "test"),
}


@pytest.mark.parametrize(
    "spelled",
    [
        pytest.param(lambda text: text.replace(",", ";"), id="semicolons"),
        pytest.param(lambda text: text.replace(",", "\t"), id="tabs"),
        pytest.param(lambda text: text.replace(",", "|"), id="bars"),
        pytest.param(lambda text: text.replace(",", ", "), id="blanks"),
        pytest.param(lambda text: re.sub(r"[^,\n]+", r'"\g<0>"', text), id="quotes"),
        pytest.param(lambda text: text.replace("path,label,group,split", "Path,LABEL,Group,Split"), id="capitals"),
        pytest.param(lambda text: text.replace("\n", "\r\n"), id="Windows' lines"),
        pytest.param(lambda text: text.replace("\n", "\r"), id="old Mac's lines"),
        pytest.param(lambda text: "\n\n" + text.replace("\n", "\n\n"), id="empty lines"),
        pytest.param(lambda text: "sep=;\r\n" + text.replace(",", ";"), id="Excel's separator"),
        pytest.param(lambda text: text.replace("\n", ",,\n"), id="empty columns"),
        pytest.param(lambda text: text.replace("/", "\\"), id="backslashes"),
        pytest.param(lambda text: text.replace("real/", "./real/").replace("fake/", "real/../fake/"), id="dots"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-16-le", "utf-32"])
def test_list_spellings_and_encodings(tmp_path: Path, spelled: Callable[[str], str], encoding: str) -> None:
    _files(tmp_path)
    (tmp_path / "list.csv").write_bytes(spelled(PLAIN).encode(encoding))
    corpus = read_corpus(tmp_path)
    assert _known(corpus) == EXPECTED
    assert not corpus.skipped


@pytest.mark.parametrize("name", ["List.CSV", "list.tsv", "list.txt"])
def test_list_suffixes(tmp_path: Path, name: str) -> None:
    (_files(tmp_path) / name).write_text(PLAIN)
    (tmp_path / "._list.csv").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "readme.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder.csv").mkdir()
    assert _known(read_corpus(tmp_path)) == EXPECTED


@pytest.mark.parametrize("given", ["relative", "absolute", "linked"])
@pytest.mark.parametrize("spelled", ["absolute", "from the current folder"])
def test_absolute_paths_and_paths_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, spelled: str
) -> None:
    root = _files(tmp_path / "c")
    prefix = f"{root}/" if spelled == "absolute" else "c/"
    text = PLAIN.replace("real/", f"{prefix}real/").replace("fake/", f"{prefix}fake/")
    (root / "list.csv").write_text(text)
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(tmp_path)
    corpus = read_corpus({"relative": Path("c"), "absolute": root, "linked": Path("link")}[given])
    assert _known(corpus) == EXPECTED
    assert not corpus.skipped
    assert {video.source for video in corpus.videos if video.label == "fake"} == {"real/1", "real/2"}


@pytest.mark.parametrize("source", ["real/2", "real\\2.mp4", "{root}/real/2.mp4", "{root}/real/2"])
def test_source_spellings(tmp_path: Path, source: str) -> None:
    _files(tmp_path)
    named = source.format(root=tmp_path)
    (tmp_path / "list.csv").write_text(f"path,label,source\nreal/2.mp4,real,\nfake/x/1.mp4,fake,{named}\n")
    assert {video.video: video.source for video in read_corpus(tmp_path).videos}["fake/x/1"] == "real/2"


def test_files_outside_the_corpus_are_skipped(tmp_path: Path) -> None:
    root = _files(tmp_path / "c")
    _files(tmp_path / "elsewhere", "1.mp4", "2.mp4")
    outside = [str(tmp_path / "elsewhere" / "1.mp4"), "../elsewhere/2.mp4"]
    (root / "list.csv").write_text(PLAIN + "".join(f"{path},real,,\n" for path in outside))
    corpus = read_corpus(root)
    assert _known(corpus) == EXPECTED
    reason = "is listed in list.csv but lies outside the corpus"
    assert [(skipped.name, skipped.reason) for skipped in corpus.skipped] == [(path, reason) for path in outside]


def test_error_of_an_empty_corpus_gives_the_reasons(tmp_path: Path) -> None:
    _files(tmp_path, "real/1.mp4")
    (tmp_path / "list.csv").write_text("path,label\nreal\\one.mp4,real\nfake\\x\\two.mp4,fake\n")
    with pytest.raises(DataError) as caught:
        read_corpus(tmp_path)
    message = str(caught.value)
    assert r"real\one.mp4 and 1 more: is listed in list.csv but not there" in message
    assert "real/1.mp4: is not listed in list.csv" in message
    assert "\n" not in message
    assert "above" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file;label;group\nreal/1.mp4;real;Anna\n", "lacks the column path"),
        ("clip,label\nreal/1.mp4,real\n", "lacks the column path"),
        ("video,label\nreal/1,real\n", "lacks the column path"),
        ("real/1.mp4,real,Anna\n", "without a first line that names its columns"),
        ("path label\nreal/1.mp4 real\n", "separates its columns by something other"),
        ("path,label,group,Group\nreal/1.mp4,real,Anna,Bert\n", "names the column group twice"),
        ("path,label\nreal/1.mp4," + "x" * 200_000 + "\n", "can't be read"),
        ("path,label\nreal/1.mp4,real,Anna\n", "line 2 has 3 cells, but the first line names 2 columns"),
        ("path,label\nreal/\0.mp4,real\n", "line 2 holds a NUL byte"),
    ],
)
def test_list_not_understood_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (_files(tmp_path) / "list.csv").write_text(text)
    with pytest.raises(DataError, match=rf"list\.csv: .*{message}") as caught:
        read_corpus(tmp_path)
    assert "\n" not in str(caught.value)


def test_list_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (_files(tmp_path) / "list.csv").write_bytes("path,label\n".encode("utf-16") + b"\x00\xd8\x00")
    with pytest.raises(DataError, match=r"list\.csv: can't be read"):
        read_corpus(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads every file")
def test_list_without_permission_is_an_error(tmp_path: Path) -> None:
    (_files(tmp_path) / "list.csv").write_text(PLAIN)
    (tmp_path / "list.csv").chmod(0)
    with pytest.raises(DataError, match=r"list\.csv: can't be read \(Permission denied\)"):
        read_corpus(tmp_path)


@pytest.mark.parametrize("text", ["path,group\nreal/1.mp4,Anna\n", "Path;Class\nreal/1.mp4;real\n"])
def test_unused_list_is_noted(tmp_path: Path, text: str) -> None:
    (_files(tmp_path) / "people.csv").write_text(text)
    (tmp_path / "points.csv").write_text("x,y,label\n1,2,3\n")
    first, *others = read_corpus(tmp_path).notes
    assert first.startswith("people.csv is not used: a list of the corpus needs the columns path and label")
    assert not any("points.csv" in note for note in others)


def test_unused_cells_are_noted(tmp_path: Path) -> None:
    (_files(tmp_path) / "list.csv").write_text(
        "path,label,person,source\nreal/1.mp4,real,Anna,\nreal/2.mp4,real,Bert,\n"
        f"fake/x/1.mp4,fake,Anna,real\\7.mp4\nreal/{'y' * 300}.mp4,real,Carl,\n"
    )
    people = tmp_path / "people.tsv"
    people.write_text("path\tgroup\nreal\\1.mp4\tx\nreal\\2.mp4\tx\nreal\\8.mp4\tx\n")
    corpus = read_corpus(tmp_path, groups=people)
    assert corpus.notes == (
        "list.csv names what isn't here, in 1 lines: real\\7.mp4 (source)",
        "list.csv: not used are the columns person; known are path, label, method, group, split, source",
        "people.tsv names what isn't here, in 1 lines: real\\8.mp4",
    )
    assert "is listed in list.csv but not there" in {skipped.reason for skipped in corpus.skipped}
    # A row that names nothing joins nobody.
    assert {video.video: video.group for video in corpus.videos} == {"real/1": "1", "real/2": "1", "fake/x/1": "1"}


def test_lists_given_as_options_are_used(tmp_path: Path) -> None:
    people, splits = _files(tmp_path) / "people.csv", tmp_path / "splits.csv"
    people.write_text("Path;Group\nreal\\1.mp4;Anna\n" + f"{tmp_path / 'real/2.mp4'};Anna\n", encoding="utf-16")
    splits.write_text("video;split\nreal\\1;test\n1.mp4;test\n2;test\n", encoding="utf-8-sig")
    corpus = read_corpus(tmp_path, split=str(splits), groups=people)
    assert not any("is not used" in note for note in corpus.notes)
    groups = {video.video: video.group for video in corpus.videos}
    assert groups["real/1"] == groups["real/2"]
    assert {video.split for video in corpus.videos} == {"test"}


def test_reals_table_spellings(tmp_path: Path) -> None:
    corpus, reals = _files(tmp_path / "c"), _files(tmp_path / "more", "a.jpg", "sub/b.jpg")
    table = reals / "people.csv"
    table.write_text(f"Path;Group\n{reals / 'a.jpg'};Carl\nsub\\b.jpg;Carl\n", encoding="utf-16")
    groups = {video.video: video.group for video in read_corpus(corpus, [reals]).videos}
    assert groups["more/a"] == groups["more/sub/b"]
    table.write_text("path,group\na.jpg,Carl\nc.jpg,Carl\n")
    assert "people.csv names what isn't here, in 1 lines: c.jpg" in read_corpus(corpus, [reals]).notes
    (tmp_path / "nothing").mkdir()
    assert "nothing holds no genuine stills or videos" in read_corpus(corpus, [tmp_path / "nothing"]).notes
    table.write_text("file,group\na.jpg,Carl\n")
    with pytest.raises(DataError, match=r"people\.csv: lacks the column path"):
        read_corpus(corpus, [reals])


def test_published_list_spellings(tmp_path: Path) -> None:
    celeb = _files(tmp_path / "celeb", "Celeb-real/id0_0000.mp4", "Celeb-synthesis/id0_id1_0000.mp4")
    lines = "1\tCeleb-real\\id0_0000.mp4\r\n0 Celeb-synthesis/id0_id1_0000.mp4\r\n"
    (celeb / "List_of_testing_videos.txt").write_bytes(lines.encode("utf-16"))
    assert {video.split for video in read_corpus(celeb, split="official").videos} == {"test"}
    dfdc = _files(tmp_path / "dfdc", "test/a.mp4", "test/b.mp4")
    (dfdc / "test/labels.csv").write_bytes("Filename;Label\r\na.mp4;1\r\nb.mp4;0\r\n".encode("utf-16"))
    assert {video.path.name: video.label for video in read_corpus(dfdc).videos} == {"a.mp4": "fake", "b.mp4": "real"}
    deeper = _files(tmp_path / "deeper", "manipulated_videos/end_to_end/000_M004.mp4")
    for split in ("train", "val", "test"):
        (deeper / f"{split}.txt").write_bytes(b"\xef\xbb\xbfend_to_end\\000_M004.mp4\r\n" if split == "val" else b"")
    assert [video.split for video in read_corpus(deeper, split="official").videos] == ["val"]
