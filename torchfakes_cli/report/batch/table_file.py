"""What every format of a table can do, so that a batch is the same whatever is written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torchfakes_cli.errors import OutputError
from torchfakes_cli.report.batch.row import BatchRow
from torchfakes_cli.report.cells import escape_undecodable
from torchfakes_cli.report.files import is_special
from torchfakes_cli.report.timeline_row import TimelineRow

OTHER_PATH = "Choose another path with -o."
LATER = "The rows before it are kept. Run the same command again to go on."


@dataclass(frozen=True, slots=True)
class Record:
    """One row as a table is given it.

    Attributes:
        position: of its file among the candidates, from 0; rows are in this order.
        name: the path as it stands in the table.
        row: of that file.
        faces: rows of its timeline; 0 where the table holds none.
        timeline: reads them from the disk.
    """

    position: int
    name: str
    row: BatchRow
    faces: int
    timeline: Callable[[], Sequence[TimelineRow]]

    @property
    def values(self) -> BatchRow:
        """The row with ``name`` for its path, and nothing in it that can't be encoded."""
        model, error = self.row.model, self.row.error
        return self.row._replace(
            path=self.name, model=model and escape_undecodable(model), error=error and escape_undecodable(error)
        )


class TableFile(Protocol):
    """The file of one format. Rows it is given are in the companion already, so it may lag behind and be repaired.

    Attributes:
        holds_timelines: whether records need one.
    """

    holds_timelines: bool

    @property
    def lags(self) -> bool:
        """Whether rows were given that are not in the file yet."""

    def names(self, paths: Collection[str]) -> dict[str, str]:
        """How paths stand in the table, by path."""

    def earlier(self, *, force: bool) -> list[str]:
        """The names that the file has now, none where there is no file; with ``force`` none whatever is there.

        Raises:
            OutputError: something is there that isn't ours, or can't be read and written.
            UsageError: a package is missing.
        """

    def settle(self, records: Sequence[Record]) -> None:
        """Makes the file hold exactly these, in this order, whatever it holds.

        Raises:
            OutputError: it can't be written.
        """

    def write(self, record: Record, records: Callable[[], Sequence[Record]], *, replaces: bool) -> None:
        """Takes one more row.

        Args:
            record: the new one.
            records: everything the file is to hold, the new one included.
            replaces: the file has a row of that path.

        Raises:
            OutputError: it can't be written.
        """

    def close(self) -> None:
        """Lets go of the file."""


def check_regular(path: Path, kind: str) -> None:
    """Makes sure that no device and no pipe is in the place.

    Raises:
        OutputError: one is.
    """
    if is_special(path):
        raise OutputError(f"{kind} can't go to a device or a pipe", path=path, advice=OTHER_PATH)


def not_ours(path: Path) -> OutputError:
    """The error to raise where something else is in the place."""
    return OutputError(
        "exists and holds no results of torchfakes",
        path=path,
        advice="Choose another path with -o, or replace it with --force.",
    )
