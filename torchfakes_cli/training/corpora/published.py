"""FaceForensics++, Celeb-DF and DeeperForensics: corpora whose paths say what a file is.

FaceForensics++, in any of its compressions; masks are ignored::

    original_sequences/{youtube,actors}/{raw,c23,c40}/videos/000.mp4
    manipulated_sequences/<method>/{raw,c23,c40}/videos/<target>_<source>.mp4

A fake shows the frames of its target with the face of its source. Files of DeepFakeDetection are named
``<actor>__<scene>.mp4`` and ``<target>_<source>__<scene>__<8 letters>.mp4``. The YouTube videos were swapped in pairs,
which become one group. The few actors were all swapped with each other: each stays a group, and a fake keeps both.

Celeb-DF v2, and ++ where its files are named alike::

    Celeb-real/id0_0000.mp4
    YouTube-real/00000.mp4                              people seen once
    Celeb-synthesis/id0_id1_0000.mp4                    id1's face in id0_0000
    Celeb-synthesis/<scenario>/<method>/…               ++
    List_of_testing_videos.txt                          "1 YouTube-real/00170.mp4": 1 means real, there is no header

Most of the 59 celebrities were swapped with each other: each stays a group, and a fake keeps both.

DeeperForensics-1.0, whose originals are the YouTube videos of FaceForensics++::

    manipulated_videos/<variant>/<target>_<actor>.mp4   the actor's face in FaceForensics++'s <target>
    lists/splits/{train,val,test}.txt                   one fake per line

Each actor was put into ten targets; an actor and their targets are one group. ``source_videos`` is not read, because
the authors don't count these studio recordings as reals.

Figures: Rössler et al., "FaceForensics++: Learning to Detect Manipulated Facial Images" (ICCV 2019), and its README; Li
et al., "Celeb-DF: A Large-scale Challenging Dataset for DeepFake Forensics" (CVPR 2020); Jiang et al.,
"DeeperForensics-1.0: A Large-Scale Dataset for Real-World Face Forgery Detection" (CVPR 2020).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PureWindowsPath

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora.base import (
    FAKE,
    REAL,
    SPLITS,
    TEST,
    Corpus,
    Layout,
    Skipped,
    SourceVideo,
    files_below,
    is_footage,
    listed,
    namer,
    read_json,
)
from torchfakes_cli.training.corpora.tables import read_text

#: Compressions of the originals of FaceForensics++ in order of preference, where one of several is read.
_PREFERRED = ("c23", "raw", "c40")


@dataclass(frozen=True, slots=True)
class _Pattern:
    """Files of one kind.

    ``path`` matches the path below the corpus, without suffix and with the top folder in lower case. Its groups fill
    the templates of the other fields; ``method`` (default: the top folder) and ``compression`` are taken as they are.
    """

    path: str  # regular expression
    label: str
    group: str
    footage: str = ""  # name that an original shares with its fakes; empty for the group
    partner: str = ""  # second group, or empty
    link: str = ""  # a group that is one with the file's group, or empty


@dataclass(frozen=True, slots=True)
class _Files:
    """Files and published lists of a corpus."""

    name: str
    folders: tuple[str, ...]  # top folders, in any case
    patterns: tuple[_Pattern, ...]  # the first that matches applies
    whole: Mapping[str, int]  # number of files of each method or collection; "" for all others
    lists: Mapping[str, str]  # file names of the published lists and their splits
    read_list: Callable[[Path], Iterable[str]]  # returns the names in a list
    list_names: Callable[[SourceVideo], list[str]]  # what the lists call a video or its people; empty if they don't
    ignored: str = r"(?!)"  # regular expression for paths that are left out without a word
    advice: str = ""  # where to get missing originals

    def found(self, root: Path) -> dict[str, Path]:
        """Return the top folders that exist, by name in lower case."""
        names = {name.casefold() for name in self.folders}
        return {p.name.casefold(): p for p in sorted(root.iterdir()) if p.name.casefold() in names and p.is_dir()}

    def recognizes(self, root: Path) -> bool:
        """Return True if any of the folders exists."""
        return bool(self.found(root))

    def read(self, root: Path) -> Corpus:
        """Read all files."""
        videos: list[SourceVideo] = []
        skipped: list[Skipped] = []
        links: list[tuple[str, str]] = []
        found, name = self.found(root), namer(root)
        for top, folder in found.items():
            for path in files_below(folder):
                place = f"{top}/{path.relative_to(folder).as_posix()}"
                if re.search(self.ignored, place):
                    continue
                stem = place.removesuffix(path.suffix)
                matches = ((pattern, re.fullmatch(pattern.path, stem)) for pattern in self.patterns)
                pattern, match = next((pair for pair in matches if pair[1] and is_footage(path)), (None, None))
                if pattern is None or match is None:
                    skipped.append(
                        Skipped(path.relative_to(root).as_posix(), f"its folder or name is none of {self.name}")
                    )
                    continue
                parts = match.groupdict()
                group = pattern.group.format_map(parts)
                if pattern.link:
                    links.append((group, pattern.link.format_map(parts)))
                videos.append(
                    SourceVideo(
                        path=path,
                        video=name(path),
                        label=pattern.label,
                        method=parts.get("method") or folder.name,
                        group=group,
                        partner=pattern.partner.format_map(parts),
                        compression=parts.get("compression", ""),
                        footage=pattern.footage.format_map(parts) or group,
                    )
                )
        videos.sort(key=lambda video: video.label == FAKE)
        absent = [f"{folder}/ is missing" for folder in self.folders if folder.casefold() not in found]
        notes = (*absent, *self._partly_there(videos), *_missing_pairs(videos))
        return Corpus(self.name, tuple(videos), tuple(skipped), notes, tuple(links))

    def _partly_there(self, videos: Iterable[SourceVideo]) -> Iterator[str]:
        counts = Counter((v.label == FAKE, v.method, v.compression) for v in videos)
        whole = {method.casefold(): count for method, count in self.whole.items()}
        short = []
        for (_, method, compression), count in sorted(counts.items()):
            expected = whole.get(method.casefold(), whole.get("", 0))
            if count < expected:
                short.append(f"{f'{method} {compression}'.strip()} {count} of {expected}")
        if short:
            yield f"only partly there: {', '.join(short)}"

    def official(self, corpus: Corpus, folder: Path) -> Corpus:
        """Apply the published lists in a folder, or below it in ``lists/splits``."""
        paths: dict[str, Path] = {}
        for file, split in self.lists.items():
            for path in (folder / "lists/splits" / file, folder / file):
                if path.is_file():
                    paths[split] = path
        if not paths:
            *first, last = self.lists
            known = f"{', '.join(first)} or {last}" if first else last
            raise DataError(f"holds no {known}", path=folder, advice="Name their folder: --split official:DIR.")
        split_of: dict[str, str] = {}
        for split, path in paths.items():
            for name in self.read_list(path):
                if (other := split_of.setdefault(name, split)) != split:
                    raise DataError(f"{name} is in {paths[other].name}, too", path=path, advice="Copy it again.")
        videos, apart, unlisted = [], set(), []
        for video in corpus.videos:
            names = self.list_names(video)
            given = {split_of.get(name, "") for name in names}
            if len(given) > 1:
                # The lists keep its two people apart: they are no group, and the fake fits in no split.
                partner = f"youtube:{names[1]}"
                apart.add((video.group, partner))
                videos.append(replace(video, partner=partner))
            else:
                videos.append(replace(video, split=given.pop()) if given else video)
            if names and not videos[-1].split:
                unlisted.append(video.video)
        rest = tuple(split for split in SPLITS if split not in paths) or SPLITS
        notes = [
            f"{file} is missing: {split} is filled from what no list names"
            for file, split in self.lists.items()
            if split not in paths
        ]
        if unlisted and rest == SPLITS:
            notes.append(f"{len(unlisted)} videos are on no list and go where their people are: {listed(unlisted)}")
        here = {name for video in corpus.videos for name in self.list_names(video)}
        if gone := [name for name in split_of if name not in here]:
            notes.append(f"{len(gone)} of {len(split_of)} names on the official lists aren't here: {listed(gone)}")
        return replace(
            corpus,
            videos=tuple(videos),
            notes=(*corpus.notes, *notes),
            links=tuple(link for link in corpus.links if link not in apart),
            rest=rest,
            official=True,
            lists=tuple(paths.values()),
        )


def _missing_pairs(videos: Iterable[SourceVideo]) -> Iterator[str]:
    """Yield notes on files that some methods lack and others have, at the same compression."""
    pairs: dict[tuple[str, str], set[str]] = defaultdict(set)
    for video in videos:
        if video.label == FAKE and not video.partner:
            pairs[video.compression, video.method].add(video.path.stem)
    for (compression, method), own in sorted(pairs.items()):
        everything = set().union(*(other for (c, _), other in pairs.items() if c == compression))
        if missing := sorted(everything - own):
            name = f"{method} {compression}".strip()
            yield f"{name} lacks {len(missing)} of the {len(everything)} pairs of other methods: {listed(missing)}"


def _read_pairs(path: Path) -> Iterable[str]:
    """Read a list of FaceForensics++; these don't name DeepFakeDetection, whose actors are split as without lists."""
    pairs = read_json(path)
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and all(isinstance(number, str) for number in pair) for pair in pairs
    ):
        raise DataError("is no list of pairs", path=path, advice='Expected [["071", "054"], …].')
    return chain.from_iterable(pairs)


def _read_celeb_list(path: Path) -> list[str]:
    """Read the test videos of Celeb-DF, "1 <video>" for a real one and "0 <video>" for a fake."""
    lines = [line.split(maxsplit=1) for line in read_text(path).splitlines() if line.strip()]
    if not all(len(cells) == 2 and cells[0] in "01" for cells in lines):
        raise DataError("has lines other than '1 <video>' and '0 <video>'", path=path, advice="Copy it again.")
    return [_celeb_key(name.strip().replace("\\", "/")) for _, name in lines]


def _celeb_key(name: str) -> str:
    """Return a video's name without suffix, case and folders ``videos``, which some copies have and others lack."""
    path = Path(name)
    plain = path.with_suffix("") if is_footage(path) else path
    return "/".join(part for part in plain.as_posix().casefold().split("/") if part != "videos")


_FF_ORIGINAL = r"original_sequences/(?P<method>[^/]+)/(?P<compression>[^/]+)/videos/"
_FF_FAKE = r"manipulated_sequences/(?P<method>[^/]+)/(?P<compression>[^/]+)/videos/"
_FACEFORENSICS = _Files(
    "FaceForensics++",
    ("original_sequences", "manipulated_sequences"),
    (
        _Pattern(
            _FF_ORIGINAL + r"(?P<actor>\d+)__(?P<scene>.+)", REAL, "actor:{actor}", footage="actor:{actor}__{scene}"
        ),
        _Pattern(_FF_ORIGINAL + r"(?P<number>\d+)", REAL, "youtube:{number}"),
        _Pattern(
            _FF_FAKE + r"(?P<target>\d+)_(?P<source>\d+)__(?P<scene>.+)__\w{8}",
            FAKE,
            "actor:{target}",
            footage="actor:{target}__{scene}",
            partner="actor:{source}",
        ),
        _Pattern(_FF_FAKE + r"(?P<target>\d+)_(?P<source>\d+)", FAKE, "youtube:{target}", link="youtube:{source}"),
    ),
    whole={"": 1000, "actors": 363, "DeepFakeDetection": 3068},
    lists={f"{split}.json": split for split in SPLITS},
    read_list=_read_pairs,
    list_names=lambda video: video.path.stem.split("_") if video.group.startswith("youtube:") else [],
    ignored=r"/masks/",
)
_CELEBDF = _Files(
    "Celeb-DF",
    ("Celeb-real", "YouTube-real", "Celeb-synthesis"),
    (
        _Pattern(
            r"celeb-real/(?:.*/)?(?P<person>id\d+)_(?P<number>\d+)",
            REAL,
            "celebrity:{person}",
            footage="{person}_{number}",
        ),
        _Pattern(r"youtube-real/(?:.*/)?(?P<name>[^/]+)", REAL, "stranger:{name}"),
        _Pattern(
            r"celeb-synthesis/(?:(?:.*/)?(?P<method>(?!videos/)[^/]+)/)?(?:videos/)?"
            r"(?P<target>id\d+)_(?P<source>id\d+)_(?P<number>\d+)",
            FAKE,
            "celebrity:{target}",
            footage="{target}_{number}",
            partner="celebrity:{source}",
        ),
    ),
    whole={"Celeb-real": 590, "YouTube-real": 300, "Celeb-synthesis": 5639},
    lists={"List_of_testing_videos.txt": TEST},
    read_list=_read_celeb_list,
    list_names=lambda video: [_celeb_key(video.video)],
)
_DEEPERFORENSICS = _Files(
    "DeeperForensics",
    ("manipulated_videos",),
    (
        _Pattern(
            r"manipulated_videos/(?P<method>[^/]+)/(?:.*/)?(?P<target>\d+)_(?P<actor>[MW]\d+)",
            FAKE,
            "youtube:{target}",
            link="actor:{actor}",
        ),
    ),
    whole={"": 1000},
    lists={f"{split}.txt": split for split in SPLITS},
    read_list=lambda path: [PureWindowsPath(line).stem for line in read_text(path).split()],
    # An original goes with its fakes.
    list_names=lambda video: [video.path.stem] if video.label == FAKE else [],
    advice="They are FaceForensics++'s YouTube originals (c23): give its folder with --reals.",
)
LAYOUTS = tuple(
    Layout(
        files.name,
        f"{files.name} ({' and '.join(f'{folder}/' for folder in files.folders)})",
        files.recognizes,
        files.read,
        files.official,
        files.advice,
    )
    for files in (_FACEFORENSICS, _CELEBDF, _DEEPERFORENSICS)
)


def read_originals(root: Path) -> list[SourceVideo] | None:
    """Read the genuine videos of FaceForensics++ in one compression; None for another folder."""
    if not _FACEFORENSICS.recognizes(root):
        return None
    originals = [video for video in _FACEFORENSICS.read(root).videos if video.label == REAL]
    found = {video.compression for video in originals}
    chosen = next((name for name in _PREFERRED if name in found), min(found, default=""))
    return [video for video in originals if video.compression == chosen]
