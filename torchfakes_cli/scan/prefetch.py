"""Decode videos ahead of the networks: a pool of decoding processes, and one thread per video with a bounded queue."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from os import PathLike, fspath
from pathlib import Path
from threading import Condition, Thread
from typing import TYPE_CHECKING

from torchfakes_cli.errors import TooLongError
from torchfakes_cli.files import sha256_of
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.remote_files import Copy, is_url, local_copy
from torchfakes_cli.video.isolation.client import IsolatedDecoder

if TYPE_CHECKING:
    from torchfakes_cli.records import DecodeReport, Frame, Source, VideoInfo

#: Longest wait in seconds of a blocked thread; without a limit Windows would not deliver Ctrl-C.
WAIT_S = 0.1

_BATCHES_QUEUED = 2
# Batches in memory: the one being filled, those in the queue, the one being processed, and frames decoded ahead.
_BATCHES_ALIVE = _BATCHES_QUEUED + 3


class DecoderPool:
    """Pool of decoding processes, each started when first needed and reused from video to video.

    Args:
        config: limits on time and memory.
        size: largest number of processes at a time.
    """

    def __init__(self, config: ScanConfig, size: int) -> None:
        self._config = config
        self._size = size
        self._idle: list[IsolatedDecoder] = []
        self._used: list[IsolatedDecoder] = []

    def start(self) -> None:
        """Start the first process, without waiting until it is ready.

        Raises:
            TorchfakesError: the process can't be started.
        """
        decoder = self.take()
        if decoder is not None:
            self.give_back(decoder)
            decoder.start()

    def take(self, *, extra: int = 0) -> IsolatedDecoder | None:
        """Return a decoder, to be given back; None while ``size`` and the ``extra`` number of them are in use."""
        if len(self._used) >= self._size + extra:
            return None
        self._used.append(self._idle.pop() if self._idle else new_decoder(self._config))
        return self._used[-1]

    def give_back(self, decoder: IsolatedDecoder) -> None:
        """Return a decoder to the pool."""
        self._used.remove(decoder)
        if not decoder.abandoned:
            self._idle.append(decoder)

    def close(self) -> None:
        """End all processes; decoders taken afterwards start new ones."""
        for decoder in [*self._idle, *self._used]:
            decoder.close()


def new_decoder(config: ScanConfig) -> IsolatedDecoder:
    """Make a decoder with the limits of a scan; its process starts when it opens a file."""
    return IsolatedDecoder(timeout_s=config.timeout_s, memory_mb=config.memory_mb, hwaccel=config.hwaccel)


class Prefetcher:
    """Opens and decodes one video in a background thread; batches of frames are taken from a queue.

    Args:
        path: path or URL of the video, which is copied to a local file first if it is a URL.
        decoder: decoder for this prefetcher's exclusive use until decoding has ended.
        config: sampling, batch sizes and limits.
        threads: number of decoding threads; None for one per core, or one fewer if frames are small.
        changed: condition notified after each batch and at the end; prefetchers share it, so that one wait serves all.

    Attributes:
        path: path or URL of the video.
        decoder: decoder in use.
        started: start time on the monotonic clock.
        opened: True once the file has been opened as a video.
        ended: True once decoding has ended; batches may still be in the queue.
        error: error that ended decoding early, or None.
        frames_wanted: number of frames that will be sampled from the whole video; 0 if not known.
        info: properties of the video, once decoding has ended without an error.
        report: frames decoded and warnings, once decoding has ended without an error.
        sha256: checksum of the file, known at the same time.
        source: web page of a downloaded video, known at the same time.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        decoder: IsolatedDecoder,
        config: ScanConfig,
        threads: int | None,
        changed: Condition,
    ) -> None:
        self.path = fspath(path)
        self.decoder = decoder
        self.started = time.monotonic()
        self.opened = False
        self.ended = False
        self.error: Exception | None = None
        self.frames_wanted = 0
        self.info: VideoInfo | None = None
        self.report: DecodeReport | None = None
        self.sha256 = ""
        self.source: Source | None = None
        self._config = config
        self._threads = threads
        self._changed = changed
        self._queue: deque[list[Frame]] = deque()
        self._stopped = False
        self._thread = Thread(target=self._run, name="decode", daemon=True)
        self._thread.start()

    @property
    def next_frames(self) -> int:
        """Number of frames in the next batch; 0 if the queue is empty."""
        return len(self._queue[0]) if self._queue else 0

    def take(self) -> list[Frame]:
        """Remove the next batch from the queue and return it."""
        with self._changed:
            batch = self._queue.popleft()
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
            self._decode()
        except Exception as error:  # noqa: BLE001 - becomes the outcome of the video
            self.error = error
        finally:
            with self._changed:
                self.ended = True
                self._changed.notify_all()

    def _decode(self) -> None:
        config = self._config
        file = (
            local_copy(self.path, config.copy_mb << 20, lambda: self._stopped)
            if is_url(self.path)
            else nullcontext(Copy(self.path))
        )
        with file as copy, self.decoder.open(copy.path, threads=self._threads) as reader:
            length_s, limit_s = reader.info.duration_s, config.max_length_s
            if limit_s is not None and length_s is not None and length_s > limit_s:
                cause = f"the video is {length_s:.1f} s long, and {limit_s:g} s are allowed"
                raise TooLongError(cause, path=self.path, advice="Cut it to the part that matters.")
            frames = reader.frames(config.sampling)
            with self._changed:
                self.opened = True
                self._changed.notify_all()
            for batch in _batches(frames, config.batch_frames, config.batch_pixels // _BATCHES_ALIVE):
                self.frames_wanted = reader.report.frames_wanted
                if not self._put(batch):
                    return
            self.source = copy.source
            with suppress(OSError):  # a file that was removed meanwhile still has its result
                self.sha256 = sha256_of(Path(copy.path))
            self.info, self.report = reader.info, reader.report

    def _put(self, batch: list[Frame]) -> bool:
        """Add a batch once the queue has space; return False if the thread has to end."""
        with self._changed:
            while len(self._queue) >= _BATCHES_QUEUED and not self._stopped:
                self._changed.wait(WAIT_S)
            if not self._stopped:
                self._queue.append(batch)
                self._changed.notify_all()
            return not self._stopped


def _batches(frames: Iterable[Frame], max_frames: int, max_pixels: int) -> Iterator[list[Frame]]:
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
