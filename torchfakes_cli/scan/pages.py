"""Reports on scanned videos: collect faces, facts of the file and provenance, and write HTML pages."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from torchfakes_cli.errors import TorchfakesError
from torchfakes_cli.facts import Fact
from torchfakes_cli.files import check_targets, sha256_of, write_atomically
from torchfakes_cli.records import FaceScore, Source, Status, VideoResult
from torchfakes_cli.report.columns import BatchRow, batch_row
from torchfakes_cli.report.heat_maps import Explanation
from torchfakes_cli.report.summary import Provenance
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.explain import HeatMaps, cut_faces, representative_rows
from torchfakes_cli.scan.scanner import Scanner
from torchfakes_cli.version import __version__

if TYPE_CHECKING:
    from torchfakes_cli.detector.detector import Detector
    from torchfakes_cli.report.html.page import IndexRow

logger = logging.getLogger(__name__)

_Found = TypeVar("_Found")

#: Largest number of people shown, unless more are above the threshold; faces per person by the number of people.
#: Fewer faces are shown of many people, because each may require decoding of a whole group of pictures.
_MOST_PEOPLE = 12
_FACES = ((2, 6), (6, 4), (_MOST_PEOPLE, 3), (1 << 31, 1))
#: Longest sides in pixels of the embedded pictures of faces, which the page displays smaller, and of whole frames.
_PICTURE_SIDE = 288
_FRAME_SIDE = 720
#: Libraries whose versions may change the last digits of scores.
_LIBRARIES = ("torch", "av", "opencv-python-headless", "numpy")


def write_report(
    path: str | PathLike[str],
    result: VideoResult,
    config: ScanConfig | None = None,
    *,
    model: str | PathLike[str] | None = None,
    detector: Detector | None = None,
    command: str = "",
) -> None:
    """Write a self-contained HTML report on a scanned video.

    Args:
        path: path of the page; an existing file is replaced.
        result: result of the scan, with status ``ok``; the video must still exist at its path.
        config: configuration of the scan; None for the defaults.
        model: path or name of the checkpoint that scanned it; None for the shipped one.
        detector: loaded detector. The page has its checksum and heat maps only if ``model`` is given, too.
        command: command line that reproduces the result.

    Raises:
        OutputError: the page can't be written.
        ModelError: the detector can't be loaded.

    Example::

        result = scan_video("clip.mp4")
        write_report("report.html", result)
    """
    with Scanner(config, model=model, detector=detector) as scanner:
        Pages(scanner, command).write(path, result)


class Pages:
    """Writer of HTML reports on the results of a scanner, with the command line that reproduces them."""

    def __init__(self, scanner: Scanner, command: str = "") -> None:
        self._scanner = scanner
        self._command = command

    def load(self) -> None:
        """Load all networks now, so that errors are raised before the first page."""
        self._scanner.load()
        _ = self._heat_maps

    def write(
        self, path: str | PathLike[str], result: VideoResult, explanation: Explanation | None = None, *, name: str = ""
    ) -> None:
        """Write the page of one video, with the arguments of ``page``; an existing file is replaced."""
        write_atomically(Path(path), self.page(result, explanation, name=name))

    def page(self, result: VideoResult, explanation: Explanation | None = None, *, name: str = "") -> str:
        """Make the page of one video; parts that are no longer available are noted on it.

        Args:
            result: result with status ``ok``.
            explanation: its explanation; None chooses representative faces and shows no regions.
            name: path to show in place of the result's own.
        """
        from torchfakes_cli.report.html.page import page_of

        notes: list[str] = []
        with self._scanner.lent_decoder() as decoder:
            if explanation is None:
                faces = self._tried(
                    lambda: cut_faces(
                        result,
                        chosen_rows(result),
                        decoder,
                        self._scanner.detector,
                        heat_maps=self._heat_maps,
                        picture_side=_PICTURE_SIDE,
                        frame_side=_FRAME_SIDE,
                    ),
                    notes,
                    "The faces can't be shown",
                )
            else:
                faces = explanation.faces
            file = self._tried(lambda: decoder.describe(result.path), [], "The file can't be described")
        if file and result.source:
            file = replace(file, facts=(*_source_facts(result.source), *file.facts))
        regions = explanation.average if explanation else ()
        shown = replace(result, path=name or result.path)
        return page_of(shown, self.provenance, faces=faces or (), regions=regions, file=file, notes=notes)

    def write_index(self, path: str | PathLike[str], rows: Sequence[IndexRow], *, unfinished: int = 0) -> None:
        """Write the index page, which links to the reports."""
        from torchfakes_cli.report.html.page import write_index

        write_index(path, rows, self.provenance, self._scanner.detector.name, unfinished=unfinished)

    @cached_property
    def _heat_maps(self) -> HeatMaps | None:
        """Grad-CAM of the checkpoint; None if it is unknown, because a loaded, fused network has no gradients."""
        checkpoint = self._scanner.checkpoint
        if checkpoint is None:
            return None
        from torchfakes_cli.detector.gradcam import load_gradcam

        return load_gradcam(checkpoint, self._scanner.detector.device)

    @staticmethod
    def _tried(work: Callable[[], _Found], notes: list[str], failure: str) -> _Found | None:
        """Return what ``work`` returns; on failure add a note and return None, so that the page is still written."""
        try:
            return work()
        except Exception as error:
            logger.debug("%s", failure, exc_info=error)
            reason = error.cause if isinstance(error, TorchfakesError) else f"unexpected {type(error).__name__}"
            notes.append(f"{failure}: {reason}.")
            return None

    @cached_property
    def provenance(self) -> Provenance:
        """Program, model, thresholds and settings behind the results."""
        detector, policy, checkpoint = self._scanner.detector, self._scanner.policy, self._scanner.checkpoint
        return Provenance(
            version=__version__,
            command=self._command,
            model_sha256=None if checkpoint is None else sha256_of(checkpoint),
            calibrated_on=detector.header.calibrated_on,
            fake_above=policy.fake_above,
            real_below=policy.real_below,
            settings=tuple(_settings(self._scanner.config, detector)),
        )


class ReportFolder:
    """Reports of a batch, by video, and their index page in the folder ``path``; None writes no index."""

    def __init__(self, pages: Pages, path: str | None, paths: Mapping[str, Path]) -> None:
        self._pages = pages
        self._path = None if path is None else Path(path)
        self._paths = paths
        self._rows: dict[str, IndexRow] = {}

    @property
    def index(self) -> Path | None:
        """Path of the index; None if no reports are written."""
        if self._path is None:
            return None
        from torchfakes_cli.report.html.page import INDEX

        return self._path / INDEX

    def keep(self, kept: Mapping[str, BatchRow]) -> None:
        """Add the rows of an earlier run, whose reports exist, to the index."""
        for video, row in kept.items():
            self._add_row(video, row)

    def add(self, result: VideoResult, file: str) -> None:
        """Write the report on a video if its scan succeeded, from its local ``file``, and add its row to the index."""
        path = self._paths.get(result.path)
        if path and result.status is Status.OK:
            self._pages.write(path, replace(result, path=file), name=result.path)
        self._add_row(result.path, batch_row(result), picture=result.is_picture)

    def _add_row(self, video: str, row: BatchRow, *, picture: bool = False) -> None:
        if self._path:
            from torchfakes_cli.report.html.page import index_row

            self._rows[video] = index_row(row, self._paths.get(video), self._path, picture=picture)

    def finish(self, candidates: Sequence[str]) -> None:
        """Write the index of the results so far."""
        if self.index:
            rows = [self._rows[path] for path in candidates if path in self._rows]
            self._pages.write_index(self.index, rows, unfinished=len(candidates) - len(rows))


def check_pages(paths: Sequence[Path], *, force: bool) -> None:
    """Check in advance that reports can be written, as ``check_targets`` does."""
    if not paths:
        return
    from torchfakes_cli.report.html.page import is_ours

    check_targets(paths, is_ours, kind="a report", option="--report", force=force, make_folders=True)


def chosen_rows(result: VideoResult) -> tuple[FaceScore, ...]:
    """Choose the faces that a page shows."""
    most = max(_MOST_PEOPLE, len(result.flagged))
    people = min(most, sum(track.logit is not None for track in result.tracks))
    each = next(faces for up_to, faces in _FACES if people <= up_to)
    return representative_rows(result, faces_a_track=each, most_tracks=most)


def _source_facts(source: Source) -> Iterator[Fact]:
    names = {"page": "downloaded from", "id": "id", "title": "title", "uploader": "uploader", "uploaded": "upload date"}
    for attribute, name in names.items():
        if value := getattr(source, attribute):
            yield Fact(name, value, f"as {source.site} tells it")


def _settings(config: ScanConfig, detector: Detector) -> list[tuple[str, str]]:
    """List everything that determines the result of a scan, besides the file and the model."""
    settings = []
    for part in ("sampling", "faces", "verdict"):
        values = asdict(getattr(config, part)).items()
        settings.append((part, "; ".join(f"{name} {_in_words(value)}" for name, value in values)))
    settings.append(("computed on", f"{detector.device}, in {detector.precision}"))
    versions = []
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):  # OpenCV is distributed under several names
            versions.append(f"{name} {version_of(name)}")
    return [*settings, ("by", ", ".join([f"Python {platform.python_version()}", *versions]))]


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"  # 0.6667, not 0.6666666666666666
    return "not set" if value is None else str(value)
