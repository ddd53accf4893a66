"""A video decoded in a thread of its own, ahead of what is being looked at, with bounded room for what waits."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from os import PathLike, fspath
from threading import Condition, Thread
from typing import TYPE_CHECKING

from torchfakes_cli.errors import TooLongError
from torchfakes_cli.records import Frame
from torchfakes_cli.scan.remote_files import is_url, local_copy

if TYPE_CHECKING:
    from torchfakes_cli.config import SamplingConfig
    from torchfakes_cli.records import DecodeReport, VideoInfo
    from torchfakes_cli.video.isolation.client import IsolatedDecoder

# A blocked thread looks up this often, to see whether it should stop (and, on Windows, to notice Ctrl-C at all).
LOOK_UP_S = 0.1

# Alive at any time: the batch being filled, those waiting, and the one being looked at. All wait while the networks are
# loaded, or while frames of other videos are looked at.
_BATCHES_WAITING = 3
_BATCHES_ALIVE = _BATCHES_WAITING + 2
# Batches of small frames hold more of them, so that fewer need to wait.
_FRAMES_WAITING = 48


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames that follow one another.

    Attributes:
        frames: one or more.
        wanted: how many frames of the video are wanted in all; 0 if not known.
    """

    frames: list[Frame]
    wanted: int


class Feed:
    """One video on its way: opened and decoded in a thread, its batches taken from here.

    Args:
        path: of the video.
        decoder: used by no other feed until this one has ended.
        sampling: which frames are wanted.
        threads: that may decode it at once; None for one a core, or one fewer where pictures are small.
        max_frames: in one batch.
        max_pixels: of all frames alive at once; a single larger frame is still let through.
        max_length_s: a longer video ends at once, with a ``TooLongError``; None for no limit.
        copy_bytes: that a video from a store may have, for it is copied first.
        news: notified of each batch and of the end; feeds share it so that one wait serves several.

    Attributes:
        path: as given.
        decoder: as given.
        started: when it began, on the monotonic clock.
        opened: it is a video, and frames may come.
        ended: nothing more will come; what has come may still wait.
        error: why it ended early.
        info: what is known of the video, once it has ended without an error.
        report: how decoding it went, likewise.
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
        news: Condition,
    ) -> None:
        self.path = fspath(path)
        self.decoder = decoder
        self.started = time.monotonic()
        self.opened = False
        self.ended = False
        self.error: Exception | None = None
        self.info: VideoInfo | None = None
        self.report: DecodeReport | None = None
        self._sampling = sampling
        self._threads = threads
        self._max_frames = max_frames
        self._max_pixels = max_pixels // _BATCHES_ALIVE
        self._max_length_s = max_length_s
        self._copy_bytes = copy_bytes
        self._news = news
        self._waiting: deque[Batch] = deque()
        self._stopped = False
        self._thread = Thread(target=self._run, name="decode", daemon=True)
        self._thread.start()

    @property
    def next_frames(self) -> int:
        """How many frames the batch holds that could be taken now; 0 where none waits."""
        return len(self._waiting[0].frames) if self._waiting else 0

    @property
    def busy(self) -> bool:
        """Whether it decodes, rather than having ended or waiting for room."""
        return not self.ended and self._room

    @property
    def _room(self) -> bool:
        """Whether another batch may wait."""
        with self._news:
            return has_room([len(batch.frames) for batch in self._waiting])

    def take(self) -> Batch:
        """The batch that waits."""
        with self._news:
            batch = self._waiting.popleft()
            self._news.notify_all()
        return batch

    def close(self) -> None:
        """Ends the thread, at once; where it hadn't ended by itself, the decoder is of no use afterwards."""
        if not self.ended:
            with self._news:
                self._stopped = True
                self._news.notify_all()
            self.decoder.abandon()
        self._thread.join()

    def _run(self) -> None:
        try:
            here = (
                local_copy(self.path, self._copy_bytes, lambda: self._stopped)
                if is_url(self.path)
                else nullcontext(self.path)
            )
            with here as path, self.decoder.open(path, threads=self._threads) as reader:
                self._check_length(reader.info.duration_s)
                frames = reader.frames(self._sampling)
                with self._news:
                    self.opened = True
                    self._news.notify_all()
                for batch in grouped(frames, self._max_frames, self._max_pixels):
                    if not self._put(Batch(batch, reader.report.frames_wanted)):
                        return
                self.info, self.report = reader.info, reader.report
        except Exception as error:  # noqa: BLE001 - told where the feed is read
            self.error = error
        finally:
            with self._news:
                self.ended = True
                self._news.notify_all()

    def _check_length(self, duration_s: float | None) -> None:
        limit = self._max_length_s
        if limit is not None and duration_s is not None and duration_s > limit:
            cause = f"the video is {duration_s:.1f} s long, and {limit:g} s are allowed"
            raise TooLongError(cause, path=self.path, advice="Cut it to the part that matters.")

    def _put(self, batch: Batch) -> bool:
        """Leaves a batch once there is room; False where none is wanted any more."""
        with self._news:
            while not self._room and not self._stopped:
                self._news.wait(LOOK_UP_S)
            if self._stopped:
                return False
            self._waiting.append(batch)
            self._news.notify_all()
        return True


def has_room(waiting: Sequence[int]) -> bool:
    """Whether another batch may wait, as large as the largest that does.

    Args:
        waiting: frames of each batch that waits.
    """
    return not waiting or (len(waiting) < _BATCHES_WAITING and sum(waiting) + max(waiting) <= _FRAMES_WAITING)


def grouped(frames: Iterable[Frame], max_frames: int, max_pixels: int) -> Iterator[list[Frame]]:
    """Batches of so many frames and pixels at most; of one frame at least."""
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
