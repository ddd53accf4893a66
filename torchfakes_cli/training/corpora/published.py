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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path, PureWindowsPath

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora.base import (
    FAKE,
    REAL,
    SPLITS,
    TEST,
    TRAIN,
    VAL,
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
_CELEB_LIST = "List_of_testing_videos.txt"


@dataclass(frozen=True, slots=True)
class _Pattern:
    """Files of one kind.

    Attributes:
        path: regular expression for the path below the corpus, without suffix and with the top folder in lower case.
            Its groups fill the templates below; ``method`` and ``compression`` are taken as they are, and the method
            defaults to the name of the top folder.
        label: ``real`` or ``fake``.
        group: template of the group.
        footage: template of the name that an original shares with its fakes; empty for the group.
        partner: template of the second group, or empty.
        link: template of a group that is one with the file's group, or empty.
    """

    path: str
    label: str
    group: str
    footage: str = ""
    partner: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class _Files:
    """Files of a corpus.

    Attributes:
        name: name of the corpus.
        folders: top folders; upper and lower case are alike.
        patterns: kinds of files; the first that matches applies.
        whole: number of files of each method or collection; the entry ``""`` applies to the others.
        ignored: regular expression for paths that are left out without a word.
    """

    name: str
    folders: tuple[str, ...]
    patterns: tuple[_Pattern, ...]
    whole: Mapping[str, int] = field(default_factory=dict)
    ignored: str = r"(?!)"

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
                pattern, parts = self._match(place.removesuffix(path.suffix)) if is_footage(path) else (None, {})
                if pattern is None:
                    relative = path.relative_to(root).as_posix()
                    skipped.append(Skipped(relative, f"its folder or name is none of {self.name}"))
                    continue
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

    def _match(self, place: str) -> tuple[_Pattern | None, dict[str, str]]:
        for pattern in self.patterns:
            if match := re.fullmatch(pattern.path, place):
                return pattern, match.groupdict()
        return None, {}

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
)


def read_originals(root: Path) -> list[SourceVideo] | None:
    """Read the genuine videos of FaceForensics++ in one compression; None for another folder."""
    if not _FACEFORENSICS.recognizes(root):
        return None
    originals = [video for video in _FACEFORENSICS.read(root).videos if video.label == REAL]
    found = {video.compression for video in originals}
    chosen = next((name for name in _PREFERRED if name in found), min(found, default=""))
    return [video for video in originals if video.compression == chosen]


def _three_lists(
    corpus: Corpus,
    folder: Path,
    suffix: str,
    read: Callable[[Path], Iterable[str]],
    names: Callable[[SourceVideo], list[str]],
) -> Corpus:
    """Apply lists of three splits to the YouTube videos and their fakes.

    Args:
        corpus: corpus as read.
        folder: folder of the lists, or the one that holds it as ``lists/splits``.
        suffix: suffix of the lists.
        read: returns the names in a list.
        names: returns what the lists call the people of a YouTube video or its fake; empty if they don't list it.
    """
    paths = {
        split: path
        for split in SPLITS
        for path in (folder / "lists" / "splits" / f"{split}{suffix}", folder / f"{split}{suffix}")
        if path.is_file()
    }
    if not paths:
        *first, last = (f"{split}{suffix}" for split in SPLITS)
        raise DataError(
            f"holds no {', '.join(first)} or {last}", path=folder, advice="Name their folder: --split official:DIR."
        )
    split_of: dict[str, str] = {}
    for split, path in paths.items():
        for name in read(path):
            if split_of.setdefault(name, split) != split:
                raise DataError(f"{name} is in {split_of[name]}{suffix}, too", path=path, advice="Copy it again.")
    apart: set[tuple[str, str]] = set()

    def listed_names(video: SourceVideo) -> list[str]:
        return names(video) if video.group.startswith("youtube:") else []

    def placed(video: SourceVideo) -> SourceVideo:
        people = listed_names(video)
        given = {split_of.get(name, "") for name in people}
        if len(given) == 1:
            return replace(video, split=given.pop())
        if not given:
            return video
        # The lists keep its two people apart: they are no group, and the fake fits in no split.
        partner = f"youtube:{people[1]}"
        apart.add((video.group, partner))
        return replace(video, partner=partner)

    videos = tuple(placed(video) for video in corpus.videos)
    absent = [split for split in SPLITS if split not in paths]
    notes = [f"{split}{suffix} is missing: {split} is filled from what no list names" for split in absent]
    unlisted = [video.video for video in videos if listed_names(video) and not video.split]
    if unlisted and not absent:
        notes.append(f"{len(unlisted)} videos are on no list and go where their people are: {listed(unlisted)}")
    return replace(
        corpus,
        videos=videos,
        notes=(*corpus.notes, *notes),
        links=tuple(link for link in corpus.links if link not in apart),
        rest=tuple(absent) or SPLITS,
        official=True,
        lists=tuple(paths.values()),
    )


def _faceforensics_splits(corpus: Corpus, folder: Path) -> Corpus:
    """Apply ``train.json``, ``val.json`` and ``test.json``: lists of pairs such as ``["071", "054"]``.

    They don't name DeepFakeDetection, whose actors are split as without lists.
    """

    def numbers(path: Path) -> Iterable[str]:
        pairs = read_json(path)
        if not isinstance(pairs, list) or not all(
            isinstance(pair, list) and all(isinstance(number, str) for number in pair) for pair in pairs
        ):
            raise DataError("is no list of pairs", path=path, advice='Expected [["071", "054"], …].')
        return chain.from_iterable(pairs)

    return _three_lists(corpus, folder, ".json", numbers, lambda video: video.path.stem.split("_"))


def _deeperforensics_splits(corpus: Corpus, folder: Path) -> Corpus:
    """Apply ``train.txt``, ``val.txt`` and ``test.txt``: lists of fakes. An original goes with its fakes."""
    return _three_lists(
        corpus,
        folder,
        ".txt",
        lambda path: [PureWindowsPath(line).stem for line in read_text(path).split()],
        lambda video: [video.path.stem] if video.label == FAKE else [],
    )


def _celebdf_splits(corpus: Corpus, folder: Path) -> Corpus:
    """Apply the list of test videos. Others are for training and validation, unless they show people of the test."""
    path = folder / _CELEB_LIST
    if not path.is_file():
        raise DataError(f"holds no {_CELEB_LIST}", path=folder, advice="Name the list's folder: --split official:DIR.")
    labels = {_celeb_key(video.video): video.label for video in corpus.videos}
    wanted: set[str] = set()
    absent = []
    for line, text in enumerate(read_text(path).splitlines(), 1):
        if not text.strip():
            continue
        mark, _, name = text.replace("\t", " ").strip().partition(" ")
        if mark not in ("0", "1") or not name:
            raise DataError(f"line {line} is not '1 <video>' or '0 <video>'", path=path, advice="Copy it again.")
        key, label = _celeb_key(name.strip().replace("\\", "/")), REAL if mark == "1" else FAKE
        wanted.add(key)
        if key not in labels:
            absent.append(name.strip())
        elif labels[key] != label:
            raise DataError(
                f"line {line} takes {name.strip()} for {label}", path=path, advice="In this list 1 means real."
            )
    notes = [f"{len(absent)} of {len(wanted)} official test videos aren't there: {listed(absent)}"] if absent else []
    return replace(
        corpus,
        videos=tuple(replace(v, split=TEST) if _celeb_key(v.video) in wanted else v for v in corpus.videos),
        notes=(*corpus.notes, *notes),
        rest=(TRAIN, VAL),
        official=True,
        lists=(path,),
    )


def _celeb_key(name: str) -> str:
    """Return a video's name without suffix, case and folders ``videos``, which some copies have and others lack."""
    path = Path(name)
    plain = path.with_suffix("") if is_footage(path) else path
    return "/".join(part for part in plain.as_posix().casefold().split("/") if part != "videos")


def _layout(files: _Files, signs: str, official: Callable[[Corpus, Path], Corpus], advice: str = "") -> Layout:
    return Layout(files.name, f"{files.name} ({signs})", files.recognizes, files.read, official, advice)


LAYOUTS: Sequence[Layout] = (
    _layout(_FACEFORENSICS, "original_sequences/ and manipulated_sequences/", _faceforensics_splits),
    _layout(_CELEBDF, "Celeb-real/ and Celeb-synthesis/", _celebdf_splits),
    _layout(
        _DEEPERFORENSICS,
        "manipulated_videos/",
        _deeperforensics_splits,
        "They are FaceForensics++'s YouTube originals (c23): give its folder with --reals.",
    ),
)
