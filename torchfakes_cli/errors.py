"""Exceptions of this package, as one tree.

::

    TorchfakesError
    ├── UsageError                invalid or contradictory arguments (exit code 2)
    ├── MediaError                a media file can't be used
    │   ├── UnreadableFileError   missing, not a regular file, empty, no permission
    │   ├── UnsupportedMediaError refused on purpose: a playlist, a document, an unknown or unsafe format
    │   ├── NoVideoStreamError    no stream that can be shown
    │   ├── TooLongError          longer than is allowed
    │   └── DecodeError           a video stream that can't be decoded, or not well enough
    │       ├── DecodeTimeoutError  decoding takes too long
    │       ├── TooLargeError       decoding needs too much memory
    │       └── DecoderCrashError   the decoding process crashed
    ├── ModelError                a detector can't be used
    │   ├── ModelNotFoundError    no such checkpoint, or no shipped detector
    │   ├── CheckpointError       not a torchfakes checkpoint, damaged, or unfit for the network
    │   └── DownloadError         weights can't be downloaded, or have the wrong checksum
    ├── DataError                 a corpus or a folder of crops can't be used
    ├── OutputError               a result can't be written
    ├── WorkerLostError           a scanning process, here or elsewhere, has ended unexpectedly
    └── StoppedError              the caller stopped the work

Messages are shown to users as they are: one line with the file, the cause and the next step.
"""

from __future__ import annotations

from os import PathLike, fspath


class TorchfakesError(Exception):
    """Base class of all errors that this package raises on purpose.

    Args:
        cause: cause of the error, as a clause without a final full stop.
        path: path of the file concerned, if any.
        advice: next step for the user, as a sentence.
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
        # Pickle passes keyword-only arguments between processes only as state.
        return (type(self), (self.cause,), {"path": self.path, "advice": self.advice})


class UsageError(TorchfakesError):
    """The arguments are invalid or contradict each other."""


class MediaError(TorchfakesError):
    """A media file can't be used."""


class UnreadableFileError(MediaError):
    """The file is missing, empty, not a regular file, or not readable."""


class UnsupportedMediaError(MediaError):
    """The file is refused on purpose: a playlist, an unknown format, a codec outside the allow list."""


class NoVideoStreamError(MediaError):
    """The file can be opened, but has no stream that can be shown."""


class TooLongError(MediaError):
    """The video is longer than the caller allows."""


class DecodeError(MediaError):
    """The video stream can't be decoded, or not well enough for a verdict."""


class DecodeTimeoutError(DecodeError):
    """Decoding was given up, because it made no progress or too little."""


class TooLargeError(DecodeError):
    """Decoding needs more memory than is allowed."""


class DecoderCrashError(DecodeError):
    """The decoding process ended before the file was decoded."""


class ModelError(TorchfakesError):
    """A detector can't be used."""


class ModelNotFoundError(ModelError):
    """There is no such checkpoint."""


class CheckpointError(ModelError):
    """The file is not a torchfakes checkpoint, is damaged, or doesn't fit the network."""


class DownloadError(ModelError):
    """Weights can't be downloaded, or their checksum is wrong."""


class DataError(TorchfakesError):
    """A corpus, a manifest or a folder of crops can't be used."""


class OutputError(TorchfakesError):
    """A result can't be written."""


class WorkerLostError(TorchfakesError):
    """A scanning process, on this machine or another, has ended unexpectedly."""


class StoppedError(TorchfakesError):
    """The caller stopped the work."""
