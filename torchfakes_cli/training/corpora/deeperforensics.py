"""DeeperForensics-1.0, whose genuine videos are the YouTube originals of FaceForensics++.

::

    manipulated_videos/<variant>/<target>_<actor>.mp4     the actor's face in FaceForensics++'s <target>
    source_videos/<actor>/…                               the actors in a studio; the authors don't count them as reals
    lists/splits/{train,val,test}.txt                     one fake a line

Each actor was put into ten targets; an actor and their targets are one group. The originals are found in a folder of
FaceForensics++ that is given as further genuine files.

Source: Jiang et al., "DeeperForensics-1.0: A Large-Scale Dataset for Real-World Face Forgery Detection" (CVPR 2020).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path, PureWindowsPath

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
    without_originals,
)
from torchfakes_cli.training.corpora.faceforensics import sequence_group
from torchfakes_cli.training.corpora.tables import read_text

_MANIPULATED = "manipulated_videos"
_WHOLE = 1000
_NAME = re.compile(r"(?P<target>\d+)_(?P<actor>[MW]\d+)")


def _recognises(root: Path) -> bool:
    return (root / _MANIPULATED).is_dir()


def _read(root: Path) -> Corpus:
    videos: list[SourceVideo] = []
    skipped: list[Skipped] = []
    links = []
    name = namer(root)
    folder = root / _MANIPULATED
    for path in files_below(folder):
        match = _NAME.fullmatch(path.stem) if is_footage(path) else None
        variant = path.relative_to(folder).parts[0]
        if match is None or variant == path.name:
            relative = path.relative_to(root).as_posix()
            skipped.append(Skipped(relative, "is not <variant>/<target>_<actor>"))
            continue
        group = sequence_group(match["target"])
        links.append((group, f"actor:{match['actor']}"))
        videos.append(SourceVideo(path, name(path), FAKE, variant, group))
    counts = Counter(video.method for video in videos)
    notes = partly_there({variant: (count, _WHOLE) for variant, count in sorted(counts.items())})
    return Corpus(LAYOUT.name, tuple(videos), tuple(skipped), notes, tuple(links))


def _completed(corpus: Corpus) -> Corpus:
    """Find the originals among the genuine files that were given."""
    originals = {video.group: video.video for video in corpus.videos if video.label == REAL}
    videos = tuple(replace(v, source=originals.get(v.group, "")) if v.label == FAKE else v for v in corpus.videos)
    advice = "They are FaceForensics++'s YouTube originals (c23): give its folder with --reals."
    return replace(corpus, videos=videos, notes=(*corpus.notes, *without_originals(videos, advice)))


def _official(corpus: Corpus, folder: Path) -> Corpus:
    """Follow the lists of fakes; an original goes with its fakes."""
    paths = {split: _list_of(folder, split) for split in SPLITS}
    found = {split: path for split, path in paths.items() if path is not None}
    if not found:
        raise DataError(
            "holds no train.txt, val.txt or test.txt", path=folder, advice="Name their folder: --split official:DIR."
        )
    split_of: dict[str, str] = {}
    for split, path in found.items():
        for line in read_text(path).split():
            stem = PureWindowsPath(line).stem
            if split_of.setdefault(stem, split) != split:
                raise DataError(f"{stem} is in {split_of[stem]}.txt, too", path=path, advice="Copy it again.")
    videos = tuple(replace(v, split=split_of.get(v.path.stem, "")) if v.label == FAKE else v for v in corpus.videos)
    absent = [split for split in SPLITS if split not in found]
    notes = [f"{split}.txt is missing: {split} is filled from what no list names" for split in absent]
    unlisted = [v.video for v in videos if v.label == FAKE and not v.split]
    if unlisted and not absent:
        notes.append(f"{len(unlisted)} fakes are on no list and go where their people are: {listed(unlisted)}")
    return replace(
        corpus,
        videos=videos,
        notes=(*corpus.notes, *notes),
        rest=tuple(absent) or SPLITS,
        official=True,
        lists=tuple(found.values()),
    )


def _list_of(folder: Path, split: str) -> Path | None:
    places = (folder / f"{split}.txt", folder / "lists" / "splits" / f"{split}.txt")
    return next((path for path in places if path.is_file()), None)


LAYOUT = Layout(
    name="DeeperForensics",
    signs=f"DeeperForensics ({_MANIPULATED}/)",
    recognises=_recognises,
    read=_read,
    official=_official,
    completed=_completed,
)
