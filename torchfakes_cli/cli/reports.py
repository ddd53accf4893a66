"""What ``--report`` asks for: where pages go, and what is written when."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torchfakes_cli.errors import UsageError
from torchfakes_cli.records import Status, VideoResult

if TYPE_CHECKING:
    from torchfakes_cli.report import BatchRow
    from torchfakes_cli.report.html.index import IndexRow
    from torchfakes_cli.scan import Pages

_PAGES = (".html", ".htm", ".xhtml")


def page_of_one(report: str | None, video: str, timeline: Path | None) -> Path | None:
    """Where the page of a single video goes: the file that was named, or into the folder; None where none is wanted.

    Raises:
        UsageError: it would replace the video or its timeline.
    """
    from torchfakes_cli.scan import PAGE_ENDING, timeline_places

    if report is None:
        return None
    place = Path(report)
    if report.endswith(("/", os.sep)) or place.is_dir():
        return place / timeline_places([video], PAGE_ENDING)[video].name
    taken = [Path(video), *([timeline] if timeline else [])]
    if os.path.realpath(place) in [os.path.realpath(each) for each in taken]:
        raise UsageError("the report needs a place of its own", path=report, advice="Give --report another path.")
    return place


def pages_of_many(report: str | None, videos: Sequence[str], paths: Sequence[str]) -> dict[str, Path]:
    """Where the pages of several videos go: into folders like theirs; none where none is wanted.

    Raises:
        UsageError: a file is named rather than a folder.
    """
    from torchfakes_cli.scan import PAGE_ENDING, mirrored_places

    if report is None:
        return {}
    if Path(report).is_file() or report.lower().endswith(_PAGES):
        raise UsageError("reports on several videos go into a folder", path=report, advice="Give --report FOLDER/.")
    return mirrored_places(videos, paths, report, PAGE_ENDING)


def check_pages(places: Sequence[Path], *, force: bool) -> None:
    """Finds out before a scan whether its pages can be written; earlier pages are replaced, other files with ``force``.

    Raises:
        OutputError: they can't.
    """
    if not places:
        return
    from torchfakes_cli.report.files import check_targets
    from torchfakes_cli.report.html.rendering import is_ours

    check_targets(places, is_ours, kind="a report", option="--report", force=force, make_folders=True)


def command_line() -> str:
    """The command as it was given, to be pasted into a shell."""
    words = ["torchfakes", *sys.argv[1:]]
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


class Folder:
    """The pages of a batch and the index that leads to them.

    Args:
        path: the folder; None where no pages are wanted.
        places: of the pages, by video.
    """

    def __init__(self, path: str | None, places: Mapping[str, Path]) -> None:
        self._path = None if path is None else Path(path)
        self._places = places
        self._rows: dict[str, IndexRow] = {}

    @property
    def index(self) -> Path | None:
        """Where the index goes."""
        from torchfakes_cli.report.html.index import INDEX

        return self._path and self._path / INDEX

    @property
    def targets(self) -> list[Path]:
        """Everything that is to be written."""
        return [*([self.index] if self.index else []), *self._places.values()]

    def keep(self, kept: Mapping[str, BatchRow]) -> None:
        """Takes over the rows of an earlier run, whose pages are there."""
        from torchfakes_cli.report.html.index import row_of_earlier

        if self._path:
            self._rows.update(
                {video: row_of_earlier(row, self._places[video], self._path) for video, row in kept.items()}
            )

    def add(self, result: VideoResult, pages: Pages | None) -> None:
        """Writes the page of a video, if it could be scanned; the index comes last."""
        from torchfakes_cli.report.html.index import row_of_result

        if self._path is None or pages is None:
            return
        place = self._places.get(result.path)
        if place and result.status is Status.OK:
            pages.write(place, result)
        self._rows[result.path] = row_of_result(result, place, self._path)

    def finish(self, candidates: Sequence[str], pages: Pages | None) -> None:
        """Writes the index of what is known by now."""
        if self.index and pages:
            rows = [self._rows[path] for path in candidates if path in self._rows]
            pages.write_index(self.index, rows, unfinished=len(candidates) - len(rows))
