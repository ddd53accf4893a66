"""Nobody is on two sides: over corpora put together at random, however their splits are decided.

What is known of people is read from the file names again, by rules of the tests' own.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from torchfakes_cli.training.corpora import read_corpus
from torchfakes_cli.training.corpora.base import SourceVideo
from torchfakes_cli.training.crops.splits import assign_splits, left_out

People = Callable[[SourceVideo], set[str]]

_PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=16, unique=True)
_PEOPLE = st.lists(st.integers(0, 9), min_size=1, max_size=10, unique=True)
_SPLIT = st.sampled_from(["train", "val", "test"])
_FOOTAGE = st.lists(st.tuples(st.integers(0, 9), st.sampled_from("AB")), max_size=5)


def _written(root: Path, names: Sequence[str]) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _check(root: Path, people: People, split: str, groups: Path | None, reals: Sequence[Path] = ()) -> None:
    """No name that a used video carries, and no footage that a list joins, is seen in two splits."""
    corpus = read_corpus(root, reals, split, groups)
    splits = assign_splits(corpus, 0.2, 0.2, 1)
    lost = {video.video for video, _ in left_out(corpus, splits)}
    seen: dict[str, set[str]] = defaultdict(set)
    for video in corpus.videos:
        if video.video not in lost:
            for person in people(video):
                seen[person].add(splits[video.group])
            if video.split:
                assert splits[video.group] == video.split
    assert all(len(places) == 1 for places in seen.values()), seen


def _footage(root: Path, known: Sequence[tuple[str, str]]) -> tuple[Path, dict[str, str]]:
    table = root / "footage.txt"
    table.write_text("video,group\n" + "".join(f"{name},{group}\n" for name, group in known))
    return table, dict(known)


@settings(max_examples=25)
@given(_PEOPLE, _PAIRS, _PAIRS, st.dictionaries(st.integers(0, 9), _SPLIT), st.booleans(), _FOOTAGE)
def test_faceforensics(
    originals: list[int],
    pairs: list[tuple[int, int]],
    actors: list[tuple[int, int]],
    listed: dict[int, str],
    official: bool,
    footage: list[tuple[int, str]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _written(root, [f"original_sequences/youtube/c23/videos/{n:03d}.mp4" for n in originals])
        _written(root, [f"manipulated_sequences/Deepfakes/c23/videos/{a:03d}_{b:03d}.mp4" for a, b in pairs])
        _written(
            root, [f"manipulated_sequences/DeepFakeDetection/c23/videos/{a}_{b}__x__ABCDEFGH.mp4" for a, b in actors]
        )
        for split in ("train", "val", "test"):
            (root / f"{split}.json").write_text(json.dumps([[f"{n:03d}"] for n, s in listed.items() if s == split]))
        table, groups = _footage(root, list({f"{n:03d}": group for n, group in footage}.items()))

        def people(video: SourceVideo) -> set[str]:
            stem = video.path.stem
            kind = "actor" if "__" in stem else "video"
            numbers = stem.split("__")[0].split("_")
            return {f"{kind}{n}" for n in numbers} | {groups[n] for n in numbers if kind == "video" and n in groups}

        _check(root, people, "official" if official else "groups", table)


@settings(max_examples=25)
@given(_PEOPLE, _PAIRS, st.lists(st.integers(0, 25), max_size=8, unique=True), st.booleans())
def test_celebdf(reals: list[int], pairs: list[tuple[int, int]], tested: list[int], official: bool) -> None:
    names = [f"Celeb-real/id{n}_{take:04d}.mp4" for n in reals for take in (0, 1)]
    names += [f"Celeb-synthesis/id{a}_id{b}_0000.mp4" for a, b in pairs]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _written(root, names)
        lines = [f"{int('real' in names[i])} {names[i]}" for i in tested if i < len(names)]
        (root / "List_of_testing_videos.txt").write_text("\n".join(lines))

        def people(video: SourceVideo) -> set[str]:
            return {part for part in video.path.stem.split("_") if part.startswith("id")}

        _check(root, people, "official" if official else "groups", None)


@settings(max_examples=25)
@given(_PEOPLE, _PAIRS, st.lists(st.integers(0, 25), max_size=8, unique=True))
def test_dfdc_preview(reals: list[int], pairs: list[tuple[int, int]], tested: list[int]) -> None:
    entries = [(f"original_videos/{n}/{n}_0.mp4", "real", n + 1, None) for n in reals]
    entries += [(f"method_A/{a}_{b}/{a}_{b}.mp4", "fake", a + 1, b + 1) for a, b in pairs]
    known = {name: {str(target), str(source or target)} for name, _, target, source in entries}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _written(root, list(known))
        listed = {
            name: {"label": label, "target_id": target, "swapped_id": source, "set": "test" if i in tested else "train"}
            for i, (name, label, target, source) in enumerate(entries)
        }
        (root / "dataset.json").write_text(json.dumps(listed))
        _check(root, lambda video: known[f"{video.video}.mp4"], "groups", None)


@settings(max_examples=25)
@given(_PEOPLE, _PAIRS, st.dictionaries(st.integers(0, 15), _SPLIT), st.booleans(), st.booleans())
def test_deeperforensics(
    reals: list[int], pairs: list[tuple[int, int]], listed: dict[int, str], official: bool, with_reals: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, originals = Path(folder, "deeper"), Path(folder, "originals")
        names = [f"{target:03d}_M{actor:03d}.mp4" for target, actor in pairs]
        _written(root, [f"manipulated_videos/{variant}/{name}" for name in names for variant in ("a", "b")])
        (root / "manipulated_videos").mkdir(parents=True, exist_ok=True)
        _written(originals, [f"original_sequences/youtube/c23/videos/{n:03d}.mp4" for n in reals])
        (root / "lists/splits").mkdir(parents=True)
        for split in ("train", "val", "test"):
            lines = [names[i] for i, place in listed.items() if place == split and i < len(names)]
            (root / f"lists/splits/{split}.txt").write_text("\n".join(lines))
        if not names and not with_reals:
            return

        def people(video: SourceVideo) -> set[str]:
            return set(video.path.stem.split("_"))

        _check(root, people, "official" if official else "groups", None, [originals] if with_reals else [])


@settings(max_examples=30)
@given(_PEOPLE, _PEOPLE, st.data())
def test_a_table_of_splits(reals: list[int], fakes: list[int], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _written(root, [f"real/{n}.mp4" for n in reals] + [f"fake/swap/{n}.mp4" for n in fakes])
        table = root / "splits.csv"
        # One row a person, for a table that contradicts itself is refused.
        rows = data.draw(st.dictionaries(st.sampled_from(sorted({*reals, *fakes})), _SPLIT))
        table.write_text("video,split\n" + "".join(f"{name},{split}\n" for name, split in rows.items()))
        _check(root, lambda video: {video.path.stem}, str(table), None)
