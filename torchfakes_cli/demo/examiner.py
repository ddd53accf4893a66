"""Examiner: scan the file of a visitor and make a report of the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from torchfakes_cli.demo.config import DemoConfig
from torchfakes_cli.errors import UsageError
from torchfakes_cli.report.summary import Summary, summarize
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.pages import Pages
from torchfakes_cli.scan.scanner import Scanner

if TYPE_CHECKING:
    from types import TracebackType

#: Called with (stage of the work, items done, total items if known).
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of an examination, as shown to a visitor.

    Attributes:
        name: name of the file.
        summary: verdict in words.
        report: report as an HTML document.
    """

    name: str
    summary: Summary
    report: str


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
        self._scanner = Scanner(replace(config or ScanConfig(), max_length_s=60 * limits.most_minutes), model=model)
        self._pages = Pages(self._scanner)
        self._busy = Lock()

    def __enter__(self) -> Examiner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scanner.close()

    def load(self) -> None:
        """Load the networks now, so that their errors are raised before the first visitor.

        Raises:
            ModelError: the detector can't be loaded.
            UsageError: there is no such device.
        """
        self._pages.load()

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
            name = Path(path).name
            return Finding(name, summarize(result), self._pages.page(result, name=name))

    def _check(self, path: str | PathLike[str]) -> None:
        size_mb = Path(path).stat().st_size / 1e6
        if size_mb > self._limits.most_mb:
            raise UsageError(f"it has {size_mb:.1f} MB, and {self._limits.most_mb} may be given here")
