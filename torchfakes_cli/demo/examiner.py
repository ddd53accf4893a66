"""Examiner: scan the file of a visitor and make a report of the result."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from torchfakes_cli.demo.config import DemoConfig
from torchfakes_cli.errors import UsageError
from torchfakes_cli.records import Verdict, VideoResult
from torchfakes_cli.report.summary import summarise
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.pages import Pages, chosen_rows
from torchfakes_cli.scan.representative_faces import cut_faces
from torchfakes_cli.scan.scanner import Scanner
from torchfakes_cli.video.isolation.client import IsolatedDecoder

if TYPE_CHECKING:
    from types import TracebackType

    from torchfakes_cli.detector.gradcam import GradCam

#: Called with (stage of the work, items done, total items if known).
Progress = Callable[[str, int, int | None], None]

#: Longest side in pixels of the pictures of faces.
_PICTURE_SIDE = 288


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of an examination, as shown to a visitor.

    Attributes:
        verdict: verdict on the file.
        p_fake: probability behind the verdict; None if no face was scored.
        said: verdict in a sentence or two.
        page: complete report as an HTML document.
    """

    verdict: Verdict
    p_fake: float | None
    said: str
    page: str


class Examiner:
    """Scanner of visitors' files, one at a time, which keeps its networks and decoders; a context manager.

    Args:
        limits: limits on uploads.
        config: configuration of the scans; None for the defaults.
        model: path or name of a checkpoint; None for the shipped one.
    """

    def __init__(
        self, limits: DemoConfig, config: ScanConfig | None = None, *, model: str | PathLike[str] | None = None
    ) -> None:
        self._limits = limits
        self._model = model
        self._scanner = Scanner(replace(config or ScanConfig(), max_length_s=60 * limits.most_minutes), model=model)
        self._pages = Pages(self._scanner, model)
        self._busy = Lock()

    def __enter__(self) -> Examiner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pages.__exit__(kind, error, trace)
        self._scanner.close()

    def load(self) -> None:
        """Load the networks now, so that their errors are raised before the first visitor.

        Raises:
            ModelError: the detector can't be loaded.
            UsageError: there is no such device.
        """
        self._scanner.load()
        _ = self._heat_maps  # loads the cached property

    def examine(self, path: str | PathLike[str], tell: Progress | None = None) -> Finding:
        """Scan a file and make its report.

        Args:
            path: path of the file; the report shows only its name.
            tell: called with (stage of the work, items done, total items if known).

        Raises:
            UsageError: the file is larger than allowed.
            TooLongError: the video is longer than allowed.
            TorchfakesError: another error of a scan.
        """
        tell = tell or (lambda what, done, wanted: None)
        with self._busy:
            tell("opening", 0, None)
            self._check(path)

            def looked(done: int, wanted: int | None) -> None:
                tell("looking at frames", done, wanted)

            result = self._scanner.scan(path, looked)
            tell("gathering the evidence", 0, None)
            return self._show(path, result)

    def _check(self, path: str | PathLike[str]) -> None:
        size_mb = Path(path).stat().st_size / 1e6
        if size_mb > self._limits.most_mb:
            raise UsageError(f"it has {size_mb:.1f} MB, and {self._limits.most_mb} may be given here")

    def _decoder(self, spare: IsolatedDecoder | None) -> IsolatedDecoder | nullcontext[IsolatedDecoder]:
        """Return a decoder of the scanner, which stays open, or a new one if none is idle."""
        if spare is not None:
            return nullcontext(spare)
        limits = self._scanner.config
        return IsolatedDecoder(timeout_s=limits.timeout_s, memory_mb=limits.memory_mb, hwaccel=limits.hwaccel)

    def _show(self, path: str | PathLike[str], result: VideoResult) -> Finding:
        from torchfakes_cli.report.html.page import page_of

        with self._scanner.spare_decoder() as spare, self._decoder(spare) as decoder:
            faces = cut_faces(
                path,
                result,
                detector=self._scanner.detector,
                config=self._scanner.config,
                rows=chosen_rows(result),
                heat_maps=self._heat_maps,
                picture_side=_PICTURE_SIDE,
                decoder=decoder,
            )
            file = decoder.describe(path)
        named = replace(result, path=Path(path).name)
        page = page_of(named, self._pages.provenance, faces=faces, file=file)
        summary = summarise(result, self._scanner.policy)
        # Without the advice, because a visitor can't set options.
        return Finding(summary.verdict, result.p_fake, summary.headline, page)

    @cached_property
    def _heat_maps(self) -> GradCam:
        from torchfakes_cli.detector.gradcam import load_gradcam

        return load_gradcam(self._model, self._scanner.detector.device)
