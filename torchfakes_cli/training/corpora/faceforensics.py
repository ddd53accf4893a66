"""FaceForensics++, as its download script leaves it, in any of its compressions, masks ignored.

::

    original_sequences/{youtube,actors}/{raw,c23,c40}/videos/000.mp4
    manipulated_sequences/<method>/{raw,c23,c40}/videos/<target>_<source>.mp4

A fake shows the frames of its target and the face of its source. DeepFakeDetection's names say more:
``<actor>__<scene>.mp4`` and ``<target>_<source>__<scene>__<8 letters>.mp4``. The YouTube videos were swapped in pairs:
those that are linked become one group. Its few actors are all linked to each other: they stay apart, and a fake keeps
both.

Figures: Rössler et al., "FaceForensics++: Learning to Detect Manipulated Facial Images" (ICCV 2019), and its README.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora.base import (
    FAKE,
    REAL,
    SPLITS,
    Corpus,
    Layout,
    Skipped,
    SourceVideo,
    files_below,
    is_footage,
    listed,
    namer,
    partly_there,
    read_json,
    without_originals,
)

ORIGINALS, MANIPULATED = "original_sequences", "manipulated_sequences"
#: Files of each collection and method; what isn't named has as many as the first.
_WHOLE = {"youtube": 1000, "actors": 363, "DeepFakeDetection": 3068}
#: Of several compressions of the originals alone, the first of these is read.
_PREFERRED = ("c23", "raw", "c40")
_PAIR_NAME = re.compile(r"(?P<target>\d+)_(?P<source>\d+)")
_ACTOR_NAME = re.compile(r"(?P<actor>\d+)__(?P<scene>.+)")
_ACTOR_PAIR_NAME = re.compile(r"(?P<target>\d+)_(?P<source>\d+)__(?P<scene>.+)__\w{8}")


def sequence_group(number: str) -> str:
    """The group of the YouTube video ``number``, which DeeperForensics uses as well."""
    return f"youtube:{number}"


def _recognises(root: Path) -> bool:
    return (root / ORIGINALS).is_dir() or (root / MANIPULATED).is_dir()


def _read(root: Path) -> Corpus:
    originals, skipped = _collect(root, REAL)
    fakes, strays = _collect(root, FAKE)
    videos = _with_sources([*originals, *fakes])
    if not videos:
        raise DataError(
            "looks like FaceForensics++ but holds no videos",
            path=root,
            advice=f"Expected {ORIGINALS}/youtube/c23/videos/000.mp4.",
        )
    matches = (_PAIR_NAME.fullmatch(fake.path.stem) for fake in fakes)
    links = [(sequence_group(match["target"]), sequence_group(match["source"])) for match in matches if match]
    notes = (*_partly_there(videos), *_missing_pairs(fakes), *without_originals(videos))
    return Corpus(LAYOUT.name, tuple(videos), (*skipped, *strays), notes, tuple(links))


def read_originals(root: Path) -> list[SourceVideo]:
    """The genuine videos alone, of one compression."""
    originals, _ = _collect(root, REAL)
    found = {video.compression for video in originals}
    chosen = next((quality for quality in _PREFERRED if quality in found), min(found, default=""))
    return [video for video in originals if video.compression == chosen]


def _collect(root: Path, label: str) -> tuple[list[SourceVideo], list[Skipped]]:
    videos: list[SourceVideo] = []
    skipped: list[Skipped] = []
    folder = root / (ORIGINALS if label == REAL else MANIPULATED)
    name = namer(root)
    for path in files_below(folder):
        place = path.relative_to(folder).parts
        if "masks" in place:
            continue
        relative = path.relative_to(root).as_posix()
        if len(place) != 4 or place[2] != "videos" or not is_footage(path):
            skipped.append(Skipped(relative, "is not <method>/<compression>/videos/<video>"))
        elif (people := _people(label, path.stem)) is None:
            pattern = "an original's" if label == REAL else "<target>_<source>"
            skipped.append(Skipped(relative, f"its name is not {pattern}"))
        else:
            group, partner = people
            videos.append(SourceVideo(path, name(path), label, place[0], group, partner=partner, compression=place[1]))
    return videos, skipped


def _people(label: str, stem: str) -> tuple[str, str] | None:
    """Group and partner of a file by its name; None if the name is none of FaceForensics++."""
    if label == REAL:
        if match := _ACTOR_NAME.fullmatch(stem):
            return f"actor:{match['actor']}", ""
        return (sequence_group(stem), "") if stem.isdecimal() else None
    if match := _ACTOR_PAIR_NAME.fullmatch(stem):
        return f"actor:{match['target']}", f"actor:{match['source']}"
    if match := _PAIR_NAME.fullmatch(stem):
        return sequence_group(match["target"]), ""
    return None


def _with_sources(videos: Iterable[SourceVideo]) -> list[SourceVideo]:
    videos = list(videos)
    originals = {(v.compression, v.path.stem): v.video for v in videos if v.label == REAL}

    def original(video: SourceVideo) -> str:
        stem = video.path.stem
        if match := _ACTOR_PAIR_NAME.fullmatch(stem):
            stem = f"{match['target']}__{match['scene']}"
        elif match := _PAIR_NAME.fullmatch(stem):
            stem = match["target"]
        return originals.get((video.compression, stem), "")

    return [replace(v, source=original(v)) if v.label == FAKE else v for v in videos]


def _partly_there(videos: Sequence[SourceVideo]) -> tuple[str, ...]:
    counts: dict[tuple[bool, str, str], int] = defaultdict(int)
    for video in videos:
        counts[video.label == FAKE, video.method, video.compression] += 1
    whole = _WHOLE["youtube"]
    found = {
        f"{method} {quality}": (n, _WHOLE.get(method, whole)) for (_, method, quality), n in sorted(counts.items())
    }
    return partly_there(found)


def _missing_pairs(fakes: Sequence[SourceVideo]) -> tuple[str, ...]:
    """What some methods lack that others have, at the same compression."""
    pairs: dict[tuple[str, str], set[str]] = defaultdict(set)
    for video in fakes:
        if not video.partner:
            pairs[video.compression, video.method].add(video.path.stem)
    notes = []
    for (compression, method), own in sorted(pairs.items()):
        everything = set().union(*(other for (c, _), other in pairs.items() if c == compression))
        if missing := sorted(everything - own):
            notes.append(
                f"{method} {compression} lacks {len(missing)} of the {len(everything)} pairs that other methods have: "
                f"{listed(missing)}"
            )
    return tuple(notes)


def _official(corpus: Corpus, folder: Path) -> Corpus:
    """Follow ``train.json``, ``val.json`` and ``test.json``: lists of pairs such as ``["071", "054"]``.

    DeepFakeDetection is in none of them: its actors are divided as without lists.
    """
    paths = {split: folder / f"{split}.json" for split in SPLITS}
    found = {split: path for split, path in paths.items() if path.is_file()}
    if not found:
        raise DataError(
            "holds no train.json, val.json or test.json", path=folder, advice="Name their folder: --split official:DIR."
        )
    split_of: dict[str, str] = {}
    for split, path in found.items():
        for number in chain.from_iterable(_pairs(path)):
            if split_of.setdefault(number, split) != split:
                raise DataError(f"{number} is in {split_of[number]}.json, too", path=path, advice="Copy it again.")

    def placed(video: SourceVideo) -> SourceVideo:
        if not video.group.startswith("youtube:"):
            return video
        match = _PAIR_NAME.fullmatch(video.path.stem)
        target, source = (match["target"], match["source"]) if match else (video.path.stem, video.path.stem)
        split = split_of.get(target, "")
        if split == split_of.get(source, ""):
            return replace(video, split=split)
        # Joins people whom the lists keep apart: they are no group, and the fake belongs nowhere.
        return replace(video, partner=sequence_group(source))

    videos = tuple(placed(video) for video in corpus.videos)
    apart = {(video.group, video.partner) for video in videos if video.group.startswith("youtube:") and video.partner}
    absent = [split for split in SPLITS if split not in found]
    notes = [f"{split}.json is missing: {split} is filled from what no list names" for split in absent]
    unlisted = [v.video for v in videos if v.group.startswith("youtube:") and not v.split]
    if unlisted and not absent:
        notes.append(f"{len(unlisted)} videos are on no list and go where their people are: {listed(unlisted)}")
    return replace(
        corpus,
        videos=videos,
        notes=(*corpus.notes, *notes),
        links=tuple(link for link in corpus.links if link not in apart),
        rest=tuple(absent) or SPLITS,
        official=True,
        lists=tuple(found.values()),
    )


def _pairs(path: Path) -> list[list[str]]:
    pairs = read_json(path)
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and all(isinstance(number, str) for number in pair) for pair in pairs
    ):
        raise DataError("is no list of pairs", path=path, advice='Expected [["071", "054"], …].')
    return pairs


LAYOUT = Layout(
    name="FaceForensics++",
    signs=f"FaceForensics++ ({ORIGINALS}/ and {MANIPULATED}/)",
    recognises=_recognises,
    read=_read,
    official=_official,
)
