"""What a batch remembers beside its table, so that the same command, run again, goes on instead of starting over.

A table's columns are fixed, and don't say which version of a file, of the model and of the settings a row came from.
So ``results.csv`` has a companion, ``results.csv.state.jsonl``, and so has a table of any other format: a first line
that names its format, then one JSON object a row in the order of writing, with what the row depends on (``Stamp``), the
row itself with the path exactly as given, and its timeline where the table holds timelines. It is only ever appended
to; the last line about a path counts, and half a line at its end (a crash) is cut off. A row goes here before it goes
into the table: whatever a crash leaves of the table, it can be made again from this file. Whoever holds it open holds
the lock on the batch, so two scans can't share an output. Without the file (deleted, or not copied along) nothing can
be kept, and everything is scanned again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import BufferedReader, FileIO
from pathlib import Path

from torchfakes_cli.errors import OutputError
from torchfakes_cli.report.batch.row import BatchRow
from torchfakes_cli.report.files import append, unwritable
from torchfakes_cli.report.lock import try_lock
from torchfakes_cli.report.timeline_row import TimelineRow

_HEADER = b'{"torchfakes_batch_state":1}\n'
_ENDING = ".state.jsonl"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a row depends on besides the path: while it is the same, so would be the row.

    Attributes:
        size: of the file in bytes; None where it couldn't be asked.
        mtime_ns: when it was last changed; None where it couldn't be asked.
        settings: stands for the model and the settings.
        timeline: where its timeline was to go; empty where none was wanted.
        page: where its page was to go; empty likewise.
    """

    size: int | None
    mtime_ns: int | None
    settings: str
    timeline: str = ""
    page: str = ""

    @property
    def whole(self) -> bool:
        """Whether the files that belong to the row are there."""
        return all(Path(place).is_file() for place in (self.timeline, self.page) if place)


@dataclass(frozen=True, slots=True)
class Entry:
    """A row, what it depends on, and where its line is in the companion.

    Attributes:
        row: of one file.
        stamp: of that file.
        offset: of the line's first byte.
        length: of the line in bytes.
        faces: rows of its timeline there.
    """

    row: BatchRow
    stamp: Stamp
    offset: int
    length: int
    faces: int


def state_path(table: Path) -> Path:
    """The companion of a table; a link and what it points to share one."""
    real = Path(os.path.realpath(table))
    return real.with_name(real.name + _ENDING)


class BatchState:
    """The companion, open and locked until it is closed.

    Args:
        path: made where it is missing.
        force: forget what is in it, whatever it is.

    Attributes:
        entries: what is remembered, by path; timelines stay on the disk.

    Raises:
        OutputError: it can't be written, another scan holds it, or it is not ours.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self._path = path
        self.entries: dict[str, Entry] = {}
        try:
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise unwritable(path, error, advice="Choose another path with -o.") from error
        try:
            _lock(self._file, path)
            if force:
                self._file.truncate(0)
            _check_ours(self._file, path)
            whole = self._read()
            self._file.truncate(whole)
            if not whole:
                append(self._file, _HEADER, path)
        except OSError as error:
            self.close()
            raise unwritable(path, error, advice="Choose another path with -o.") from error
        except BaseException:
            self.close()
            raise

    @staticmethod
    def check(path: Path, *, force: bool = False) -> None:
        """Finds out, without changing anything, whether opening would fail.

        Raises:
            OutputError: as on opening.
        """
        try:
            with path.open("r+b", buffering=0) as file:
                _lock(file, path)
                if not force:
                    _check_ours(file, path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise unwritable(path, error, advice="Choose another path with -o.") from error

    def add(self, row: BatchRow, stamp: Stamp, timeline: Sequence[TimelineRow] = ()) -> None:
        """Remembers a row, on the disk when this returns.

        Raises:
            OutputError: it can't be written; what was there before still is.
        """
        # ASCII whatever the path holds: bytes that are no UTF-8 come back as they were.
        fields = asdict(stamp) | {"row": row} | ({"faces": timeline} if timeline else {})
        line = json.dumps(fields, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"
        offset = os.fstat(self._file.fileno()).st_size
        append(self._file, line, self._path)
        self.entries[row.path] = Entry(row, stamp, offset, len(line), len(timeline))

    def timeline(self, video: str) -> list[TimelineRow]:
        """The timeline of a row that is remembered; empty where there is none.

        Raises:
            OutputError: it can't be read back.
        """
        entry = self.entries[video]
        try:
            self._file.seek(entry.offset)
            fields = json.loads(self._file.read(entry.length))
            return [TimelineRow(*values) for values in fields.get("faces", [])]
        except (OSError, ValueError, TypeError) as error:
            raise OutputError(
                "can't be read back", path=self._path, advice="Its disk may be failing; start over with --force."
            ) from error

    def close(self) -> None:
        """Lets go of the file and the lock."""
        self._file.close()

    def _read(self) -> int:
        """Fills ``entries``, and says how many bytes are whole lines."""
        self._file.seek(0)
        reader = BufferedReader(self._file)
        offset = 0
        for line in reader:
            if not line.endswith(b"\n"):
                break
            # A line that a failing disk has damaged is as good as missing: its file is scanned again.
            with suppress(ValueError, KeyError, TypeError):
                fields = json.loads(line)
                row = BatchRow(*fields["row"])
                stamp = Stamp(*(fields[name] for name in Stamp.__slots__))
                self.entries[row.path] = Entry(row, stamp, offset, len(line), len(fields.get("faces", ())))
            offset += len(line)
        reader.detach()
        return offset


def _lock(file: FileIO, path: Path) -> None:
    if not try_lock(file):
        raise OutputError(
            "another scan is writing these results",
            path=path,
            advice="Wait for it to end, or choose another path with -o.",
        )


def _check_ours(file: FileIO, path: Path) -> None:
    """Whether its beginning is ours, or the torn beginning of ours."""
    file.seek(0)
    beginning = file.read(len(_HEADER))
    if not _HEADER.startswith(beginning):
        raise OutputError(
            "exists and doesn't belong to results of torchfakes",
            path=path,
            advice="Choose another path with -o, or replace it with --force.",
        )
