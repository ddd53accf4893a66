"""Further genuine videos and stills, from folders beside a corpus."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from torchfakes_cli.errors import DataError
from torchfakes_cli.training.corpora import faceforensics
from torchfakes_cli.training.corpora.base import (
    REAL,
    SourceVideo,
    files_below,
    find_table,
    is_footage,
    namer,
    table_rows,
)


def read_reals(folder: Path, names_taken: Collection[str], paths_taken: Collection[Path]) -> list[SourceVideo]:
    """Read a folder of genuine files; of FaceForensics++ its originals alone, in one compression.

    Each file is a group of its own, unless several files of one folder share the longest run of three or more digits in
    their names, as ``neutral_front_001_03.jpg`` and ``smiling_front_001_03.jpg`` do: then they show one person. A CSV
    at the folder's top with the columns path and group says it better.

    Args:
        folder: with anything below it.
        names_taken: first parts of names that are in use.
        paths_taken: files that are in the corpus already.

    Raises:
        DataError: it isn't a folder.
    """
    if not folder.is_dir():
        raise DataError("is not a folder", path=folder, advice="--reals takes a folder of genuine stills or videos.")
    prefix = base = folder.resolve().name or "reals"
    number = 2
    while prefix in names_taken:
        prefix, number = f"{base}-{number}", number + 1
    if faceforensics.LAYOUT.recognises(folder):
        videos = faceforensics.read_originals(folder)
    else:
        videos = _read_any(folder, prefix)
    return [replace(v, video=f"{prefix}/{v.video}") for v in videos if v.path.resolve() not in paths_taken]


def _read_any(folder: Path, prefix: str) -> list[SourceVideo]:
    table = find_table(folder, ("path", "group"))
    groups = {folder / row["path"]: row["group"].strip() for _, row in table_rows(table)} if table else {}
    paths = [path for path in files_below(folder) if is_footage(path)]
    sharing = Counter((path.parent, _digits(path.stem)) for path in paths)
    name = namer(folder)
    videos = []
    for path in paths:
        digits = _digits(path.stem)
        shared = bool(digits) and sharing[path.parent, digits] > 1
        person = path.parent.relative_to(folder) / (digits if shared else path.stem)
        inner = path.relative_to(folder).parts
        method = inner[0] if len(inner) > 1 else prefix
        group = f"{prefix}/{groups.get(path) or person.as_posix()}"
        videos.append(SourceVideo(path, name(path), REAL, method, group))
    return videos


def _digits(stem: str) -> str:
    """The longest run of three or more digits; the first of several; empty if there is none."""
    return max(re.findall(r"\d{3,}", stem), key=len, default="")
