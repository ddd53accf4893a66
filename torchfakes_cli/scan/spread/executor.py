"""What a batch asks of whatever scans it, and the simplest of them."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Protocol

from torchfakes_cli.records import VideoResult
from torchfakes_cli.scan.batch import scan_files
from torchfakes_cli.scan.flow import FolderProgress
from torchfakes_cli.scan.pipeline import Scanner


class Executor(Protocol):
    """Scans the videos of a batch.

    Attributes:
        place: where, in two or three words, for a person who waits; empty for this process.
        in_order: results come in the order of the videos; else as they are known.
    """

    place: str
    in_order: bool

    def load(self) -> None:
        """Gets ready, so that what is wrong with the detector or a device shows before the first file.

        Raises:
            TorchfakesError: it can't be used.
        """

    def scan(self, paths: Iterable[str], progress: FolderProgress | None = None) -> Generator[VideoResult, None, None]:
        """Scans files; close the generator to stop early. What is wrong with one of them is told in its result.

        Args:
            paths: of the files, each once.
            progress: called with (path, frames done, frames wanted if known), where that is known.

        Yields:
            One result a file.

        Raises:
            TorchfakesError: nothing can be scanned any more.
        """

    def close(self) -> None:
        """Ends everything that was started for it."""


class Here:
    """Scans in this process.

    Args:
        scanner: by which; it isn't closed.
    """

    place = ""
    in_order = True

    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner

    def load(self) -> None:
        """See ``Executor``."""
        self._scanner.load()

    def scan(self, paths: Iterable[str], progress: FolderProgress | None = None) -> Generator[VideoResult, None, None]:
        """See ``Executor``."""
        return scan_files(self._scanner, paths, progress)

    def close(self) -> None:
        """See ``Executor``."""
