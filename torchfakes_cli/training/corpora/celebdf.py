"""Celeb-DF v2, and ++ as far as its files are named alike.

::

    Celeb-real/id0_0000.mp4
    YouTube-real/00000.mp4                              people seen once
    Celeb-synthesis/id0_id1_0000.mp4                    id1's face in id0_0000
    Celeb-synthesis/<scenario>/<method>/…               ++
    List_of_testing_videos.txt                          "1 YouTube-real/00170.mp4": 1 means real, there is no header

Most of the 59 celebrities were swapped with each other: they stay apart, and a fake keeps both.

Figures: Li et al., "Celeb-DF: A Large-scale Challenging Dataset for DeepFake Forensics" (CVPR 2020).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora.base import (
    FAKE,
    REAL,
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
    partly_there,
    without_originals,
)
from torchfakes_cli.training.corpora.tables import read_text

_LIST_NAME = "List_of_testing_videos.txt"
_CELEBRITIES, _STRANGERS, _FAKES = "celeb-real", "youtube-real", "celeb-synthesis"
_WHOLE = {"Celeb-real": 590, "YouTube-real": 300, "Celeb-synthesis": 5639}
_REAL_NAME = re.compile(r"(?P<person>id\d+)_(?P<number>\d+)")
_FAKE_NAME = re.compile(r"(?P<target>id\d+)_(?P<source>id\d+)_(?P<number>\d+)")
_FOLDERS = (_CELEBRITIES, _STRANGERS, _FAKES)
#: Folders that are sometimes put between and say nothing.
_IDLE = frozenset({"videos"})


def _folders(root: Path) -> dict[str, Path]:
    """Find which of the three collections are there; the case of their names is ignored."""
    return {path.name.casefold(): path for path in sorted(root.iterdir()) if path.name.casefold() in _FOLDERS}


def _recognises(root: Path) -> bool:
    return bool(_folders(root))


def _read(root: Path) -> Corpus:
    videos: list[SourceVideo] = []
    skipped: list[Skipped] = []
    name = namer(root)
    for kind, folder in _folders(root).items():
        for path in files_below(folder):
            relative = path.relative_to(root).as_posix()
            video = _video(path, name(path), kind, folder) if is_footage(path) else None
            if video is None:
                wanted = {_CELEBRITIES: "<person>_<number>", _FAKES: "<target>_<source>_<number>"}.get(
                    kind, "a video's"
                )
                skipped.append(Skipped(relative, f"its name is not {wanted}"))
            else:
                videos.append(video)
    originals = {video.path.stem: video.video for video in videos if video.group.startswith("celebrity:")}
    videos = [
        replace(v, source=originals.get(_original(v.path.stem), "")) if v.label == FAKE else v
        for v in sorted(videos, key=lambda video: video.label != REAL)
    ]
    return Corpus(LAYOUT.name, tuple(videos), tuple(skipped), (*_partly_there(videos), *without_originals(videos)))


def _video(path: Path, name: str, kind: str, folder: Path) -> SourceVideo | None:
    """A file of one of the three collections; None if its name says nothing."""
    if kind == _STRANGERS:
        return SourceVideo(path, name, REAL, folder.name, f"stranger:{path.stem}")
    if kind == _CELEBRITIES:
        match = _REAL_NAME.fullmatch(path.stem)
        return SourceVideo(path, name, REAL, folder.name, f"celebrity:{match['person']}") if match else None
    match = _FAKE_NAME.fullmatch(path.stem)
    if match is None:
        return None
    inner = [part for part in path.relative_to(folder).parts[:-1] if part not in _IDLE]
    method = inner[-1] if inner else folder.name
    target, source = f"celebrity:{match['target']}", f"celebrity:{match['source']}"
    return SourceVideo(path, name, FAKE, method, target, partner=source)


def _original(stem: str) -> str:
    match = _FAKE_NAME.fullmatch(stem)
    return f"{match['target']}_{match['number']}" if match else ""


def _partly_there(videos: list[SourceVideo]) -> tuple[str, ...]:
    counts = Counter(video.method for video in videos)
    methods = {video.method for video in videos if video.label == FAKE}
    spelled = {name.casefold(): name for name in counts}
    wanted = {name: whole for name, whole in _WHOLE.items() if name != "Celeb-synthesis" or methods <= {name}}
    return partly_there({name: (counts[spelled.get(name.casefold(), name)], whole) for name, whole in wanted.items()})


def _official(corpus: Corpus, folder: Path) -> Corpus:
    """Follow the list of test videos. All else is for training and validation, except people who are in the test."""
    path = folder / _LIST_NAME
    if not path.is_file():
        raise DataError(f"holds no {_LIST_NAME}", path=folder, advice="Name the list's folder: --split official:DIR.")
    labels = {key: video.label for video in corpus.videos for key in _keys(video)}
    wanted: set[str] = set()
    absent = []
    for line, text in enumerate(read_text(path).splitlines(), 1):
        if not text.strip():
            continue
        mark, name = [*text.split(None, 1), ""][:2]
        if mark not in ("0", "1") or not name:
            raise DataError(f"line {line} is not '1 <video>' or '0 <video>'", path=path, advice="Copy it again.")
        key = _key(Path(name.strip().replace("\\", "/")))
        if key not in labels:
            absent.append(name.strip())
        elif labels[key] != (REAL if mark == "1" else FAKE):
            raise DataError(
                f"line {line} takes {name.strip()} for {'real' if mark == '1' else 'fake'}",
                path=path,
                advice="In this list 1 means real.",
            )
        wanted.add(key)
    notes = [f"{len(absent)} of {len(wanted)} official test videos aren't there: {listed(absent)}"] if absent else []
    return replace(
        corpus,
        videos=tuple(replace(v, split=TEST) if wanted.intersection(_keys(v)) else v for v in corpus.videos),
        notes=(*corpus.notes, *notes),
        rest=(TRAIN, VAL),
        official=True,
        lists=(path,),
    )


def _keys(video: SourceVideo) -> tuple[str, ...]:
    """What the list may call a video: by its place below the collection's folder, which may be named in any case."""
    parts = video.path.parts
    top = next((i for i, part in reversed(list(enumerate(parts))) if part.casefold() in _FOLDERS), None)
    return () if top is None else (_key(Path(*parts[top:])),)


def _key(path: Path) -> str:
    return "/".join(part for part in path.with_suffix("").as_posix().casefold().split("/") if part not in _IDLE)


LAYOUT = Layout(
    name="Celeb-DF",
    signs="Celeb-DF (Celeb-real/ and Celeb-synthesis/)",
    recognises=_recognises,
    read=_read,
    official=_official,
)
