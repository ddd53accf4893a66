"""Decode a video ahead in a thread, with a bounded queue of batches."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from threading import Condition, Thread
from typing import TYPE_CHECKING

from torchfakes_cli.errors import TooLongError
from torchfakes_cli.files import sha256_of
from torchfakes_cli.records import Frame
from torchfakes_cli.scan.remote_files import Copy, is_url, local_copy

if TYPE_CHECKING:
    from torchfakes_cli.records import DecodeReport, Source, VideoInfo
    from torchfakes_cli.video.isolation.client import IsolatedDecoder
    from torchfakes_cli.video.options import SamplingConfig

# Seconds between a blocked thread's checks whether to stop; without them Windows would not deliver Ctrl-C.
LOOK_UP_S = 0.1

# Batches in memory at any time: the one being filled, those in the queue, and the one being processed.
_BATCHES_WAITING = 3
_BATCHES_ALIVE = _BATCHES_WAITING + 2
# Batches of small frames contain more frames, so that a shorter queue is enough.
_FRAMES_WAITING = 48


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive sampled frames.

    Attributes:
        frames: sampled frames, at least one.
        wanted: number of frames that will be sampled from the whole video; 0 if not known.
    """

    frames: list[Frame]
    wanted: int


class Prefetcher:
    """Opens and decodes one video in a background thread; batches are taken from a queue.

    Args:
        path: path or URL of the video.
        decoder: decoder for this prefetcher's exclusive use until decoding has ended.
        sampling: which frames to decode.
        threads: number of decoding threads; None for one per core, or one fewer if frames are small.
        max_frames: largest number of frames in a batch.
        max_pixels: largest number of pixels in memory, over all frames; a single larger frame is still accepted.
        max_length_s: longest accepted video in seconds; a longer one fails with ``TooLongError``. None for no limit.
        copy_bytes: largest size of a video at a URL, which is copied to a local file first.
        changed: condition notified after each batch and at the end; prefetchers share it, so that one wait serves all.

    Attributes:
        path: path or URL of the video.
        decoder: decoder in use.
        started: start time on the monotonic clock.
        opened: True once the file has been opened as a video.
        ended: True once decoding has ended; batches may still be in the queue.
        error: error that ended decoding early, or None.
        info: properties of the video, once decoding has ended without an error.
        report: frames decoded and warnings, once decoding has ended without an error.
        sha256: checksum of the file, once decoding has ended without an error.
        source: web page of a downloaded video, known at the same time.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        decoder: IsolatedDecoder,
        sampling: SamplingConfig,
        *,
        threads: int | None,
        max_frames: int,
        max_pixels: int,
        max_length_s: float | None,
        copy_bytes: int,
        changed: Condition,
    ) -> None:
        self.path = fspath(path)
        self.decoder = decoder
        self.started = time.monotonic()
        self.opened = False
        self.ended = False
        self.error: Exception | None = None
        self.info: VideoInfo | None = None
        self.report: DecodeReport | None = None
        self.sha256 = ""
        self.source: Source | None = None
        self._sampling = sampling
        self._threads = threads
        self._max_frames = max_frames
        self._max_pixels = max_pixels // _BATCHES_ALIVE
        self._max_length_s = max_length_s
        self._copy_bytes = copy_bytes
        self._changed = changed
        self._waiting: deque[Batch] = deque()
        self._stopped = False
        self._thread = Thread(target=self._run, name="decode", daemon=True)
        self._thread.start()

    @property
    def next_frames(self) -> int:
        """Number of frames in the next batch; 0 where the queue is empty."""
        return len(self._waiting[0].frames) if self._waiting else 0

    @property
    def busy(self) -> bool:
        """True while decoding, which has neither ended nor filled the queue."""
        return not self.ended and self._room

    @property
    def _room(self) -> bool:
        """True if the queue takes another batch."""
        with self._changed:
            return has_room([len(batch.frames) for batch in self._waiting])

    def take(self) -> Batch:
        """Remove the next batch from the queue and return it."""
        with self._changed:
            batch = self._waiting.popleft()
            self._changed.notify_all()
        return batch

    def close(self) -> None:
        """Stop the thread immediately; if it was still decoding, the decoder can't be used again."""
        if not self.ended:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()
            self.decoder.abandon()
        self._thread.join()

    def _run(self) -> None:
        try:
            here = (
                local_copy(self.path, self._copy_bytes, lambda: self._stopped)
                if is_url(self.path)
                else nullcontext(Copy(self.path))
            )
            with here as copy, self.decoder.open(copy.path, threads=self._threads) as reader:
                self._check_length(reader.info.duration_s)
                frames = reader.frames(self._sampling)
                with self._changed:
                    self.opened = True
                    self._changed.notify_all()
                for batch in grouped(frames, self._max_frames, self._max_pixels):
                    if not self._put(Batch(batch, reader.report.frames_wanted)):
                        return
                self.source = copy.source
                with suppress(OSError):  # a file that was removed meanwhile still has its result
                    self.sha256 = sha256_of(Path(copy.path))
                self.info, self.report = reader.info, reader.report
        except Exception as error:  # noqa: BLE001 - becomes the outcome of the video
            self.error = error
        finally:
            with self._changed:
                self.ended = True
                self._changed.notify_all()

    def _check_length(self, duration_s: float | None) -> None:
        limit = self._max_length_s
        if limit is not None and duration_s is not None and duration_s > limit:
            cause = f"the video is {duration_s:.1f} s long, and {limit:g} s are allowed"
            raise TooLongError(cause, path=self.path, advice="Cut it to the part that matters.")

    def _put(self, batch: Batch) -> bool:
        """Add a batch once the queue has space; return False if the thread has to end."""
        with self._changed:
            while not self._room and not self._stopped:
                self._changed.wait(LOOK_UP_S)
            if self._stopped:
                return False
            self._waiting.append(batch)
            self._changed.notify_all()
        return True


def has_room(waiting: Sequence[int]) -> bool:
    """Return True if the queue has space for a batch as large as its largest one.

    Args:
        waiting: number of frames of each batch in the queue.
    """
    return not waiting or (len(waiting) < _BATCHES_WAITING and sum(waiting) + max(waiting) <= _FRAMES_WAITING)


def grouped(frames: Iterable[Frame], max_frames: int, max_pixels: int) -> Iterator[list[Frame]]:
    """Group frames into batches of at least one frame and at most the given numbers of frames and pixels."""
    batch: list[Frame] = []
    room = max_pixels
    for frame in frames:
        width, height = frame.size
        if batch and (len(batch) == max_frames or width * height > room):
            yield batch
            batch, room = [], max_pixels
        batch.append(frame)
        room -= width * height
    if batch:
        yield batch
