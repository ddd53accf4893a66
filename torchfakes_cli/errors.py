"""Everything that can go wrong, as one tree.

::

    TorchfakesError
    ├── UsageError                what was asked for makes no sense (exit code 2)
    ├── MediaError                a file can't give what it should
    │   ├── UnreadableFileError   missing, not a regular file, empty, no permission
    │   ├── UnsupportedMediaError refused on purpose: a playlist, a document, an unknown or unsafe format
    │   ├── NoVideoStreamError    opened, but nothing in it can be shown
    │   ├── TooLongError          shown for longer than is allowed
    │   └── DecodeError           a video stream that can't be decoded (well enough)
    │       ├── DecodeTimeoutError  … as it takes too long
    │       ├── TooLargeError       … as it takes too much memory
    │       └── DecoderCrashError   … as it takes the decoder down
    ├── ModelError                a detector can't be used
    │   ├── ModelNotFoundError    no such checkpoint, or no detector ships
    │   ├── CheckpointError       not one of ours, damaged, or it does not fit the network
    │   └── DownloadError         weights couldn't be fetched or have the wrong checksum
    ├── DataError                 a corpus or a folder of crops can't be used
    ├── OutputError               a result can't be written
    ├── WorkerLostError           a process that scanned, here or elsewhere, has ended
    └── StoppedError              whoever asked for it wants it no more

A message names the file, the cause and what to do next, in one line: it is shown as it stands.
"""

from __future__ import annotations

from os import PathLike, fspath


class TorchfakesError(Exception):
    """Base of every error this program raises on purpose.

    Args:
        cause: what is wrong, as a clause without a final full stop.
        path: the file it is about, if any.
        advice: what to do next, as a sentence.
    """

    def __init__(self, cause: str, *, path: str | PathLike[str] | None = None, advice: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.path = None if path is None else fspath(path)
        self.advice = advice

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path is not None else ""
        return f"{where}{self.cause}" + (f". {self.advice}" if self.advice else "")

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments survive the trip between processes only if they are carried as state.
        return (type(self), (self.cause,), {"path": self.path, "advice": self.advice})


class UsageError(TorchfakesError):
    """What was asked for makes no sense."""


class MediaError(TorchfakesError):
    """A file can't give what it should."""


class UnreadableFileError(MediaError):
    """The file is missing, empty, not a regular file, or may not be read."""


class UnsupportedMediaError(MediaError):
    """The file is refused on purpose: a playlist, an unknown format, a codec outside the allow list."""


class NoVideoStreamError(MediaError):
    """The file opened, but no stream in it can be shown."""


class TooLongError(MediaError):
    """The video is longer than the caller allows."""


class DecodeError(MediaError):
    """The video stream can't be decoded, or not well enough for a verdict."""


class DecodeTimeoutError(DecodeError):
    """Decoding was given up: nothing came for too long, or too little."""


class TooLargeError(DecodeError):
    """Decoding needs more memory than it may take."""


class DecoderCrashError(DecodeError):
    """The process that decoded the file ended in the middle of it."""


class ModelError(TorchfakesError):
    """A detector can't be used."""


class ModelNotFoundError(ModelError):
    """There is no such checkpoint."""


class CheckpointError(ModelError):
    """The file is not one of our checkpoints, is damaged, or doesn't fit the network."""


class DownloadError(ModelError):
    """Weights couldn't be fetched, or their checksum is wrong."""


class DataError(TorchfakesError):
    """A corpus, a manifest or a folder of crops can't be used."""


class OutputError(TorchfakesError):
    """A result can't be written."""


class WorkerLostError(TorchfakesError):
    """A process that scanned, on this machine or another, has ended unexpectedly."""


class StoppedError(TorchfakesError):
    """The work was stopped by whoever had asked for it."""
