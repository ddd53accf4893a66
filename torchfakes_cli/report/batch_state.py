"""What a batch remembers beside its CSV, so that the same command, run again, goes on instead of starting over.

The CSV's columns are fixed, and don't say which version of a file, of the model and of the settings a row came from.
So ``results.csv`` has a companion, ``results.csv.state.jsonl``: a first line that names its format, then one JSON
object a row in the order of writing, with the path exactly as given, what the row depends on (``Stamp``), and the row
itself. It is only ever appended to; the last line about a path counts, and half a line at its end (a crash) is cut off.
A row goes here before it goes into the CSV: whatever a crash leaves of the CSV, it can be made again from this file.
Whoever holds it open holds the lock on the batch, so two scans can't share an output. Without the file (deleted, or
not copied along) nothing can be kept, and everything is scanned again.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path

from torchfakes_cli.errors import OutputError
from torchfakes_cli.report.files import append, unwritable
from torchfakes_cli.report.lock import try_lock

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
    """A row and what it depends on; the row with its line end."""

    stamp: Stamp
    row: str


def state_path(table: Path) -> Path:
    """The companion of a CSV; a link and what it points to share one."""
    real = Path(os.path.realpath(table))
    return real.with_name(real.name + _ENDING)


class BatchState:
    """The companion, open and locked until it is closed.

    Args:
        path: made where it is missing.
        force: forget what is in it, whatever it is.

    Attributes:
        entries: what was remembered on opening, by path.

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
            content = b"" if force else _read(self._file, path)
            whole = content[: content.rfind(b"\n") + 1]
            self.entries = _entries(whole)
            if len(whole) < len(content) or force:
                self._file.truncate(len(whole))
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
                    _read(file, path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise unwritable(path, error, advice="Choose another path with -o.") from error

    def add(self, video: str, entry: Entry) -> None:
        """Remembers a row, on the disk when this returns.

        Raises:
            OutputError: it can't be written; what was there before still is.
        """
        # ASCII whatever the path holds: bytes that are no UTF-8 come back as they were.
        line = json.dumps({"path": video, **asdict(entry.stamp), "row": entry.row}, ensure_ascii=True)
        append(self._file, line.encode("ascii") + b"\n", self._path)

    def close(self) -> None:
        """Lets go of the file and the lock."""
        self._file.close()


def _lock(file: FileIO, path: Path) -> None:
    if not try_lock(file):
        raise OutputError(
            "another scan is writing these results",
            path=path,
            advice="Wait for it to end, or choose another path with -o.",
        )


def _read(file: FileIO, path: Path) -> bytes:
    """The whole content, if it is ours or the torn beginning of ours."""
    file.seek(0)
    content = file.readall()
    if not (content.startswith(_HEADER) or _HEADER.startswith(content)):
        raise OutputError(
            "exists and doesn't belong to results of torchfakes",
            path=path,
            advice="Choose another path with -o, or replace it with --force.",
        )
    return content


def _entries(content: bytes) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for line in content.splitlines()[1:]:
        # A line that a failing disk has damaged is as good as missing: its file is scanned again.
        with suppress(ValueError, KeyError, TypeError):
            fields = json.loads(line)
            page = fields.get("page", "")  # there were none at first
            stamp = Stamp(fields["size"], fields["mtime_ns"], fields["settings"], fields["timeline"], page)
            entries[str(fields["path"])] = Entry(stamp, str(fields["row"]))
    return entries
