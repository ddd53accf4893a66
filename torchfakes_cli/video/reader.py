"""Video reader: decodes selected frames of a file and only the packets that they depend on."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from torchfakes_cli.errors import DecodeError, UsageError
from torchfakes_cli.records import DecodeReport, Frame, VideoInfo
from torchfakes_cli.video.decode import DecodePass
from torchfakes_cli.video.probing import examine
from torchfakes_cli.video.sampling import choose_frames, nearest_frames, span_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from os import PathLike

    from numpy.typing import NDArray

    from torchfakes_cli.video.options import SamplingConfig


class VideoReader:
    """Reads sampled frames from one video file; a context manager.

    Opening decodes the first frame and counts the rest, so ``info`` holds true times instead of the header's.

    Args:
        path: path of the video file.
        on_packet: callback for every packet that is read, as a sign of progress; called from several threads.
        threads: maximum number of decoding threads; None for one per core, or one fewer for small pictures.
        hwaccel: FFmpeg's name of a device to decode on, such as ``cuda``; None for software. If the device can't be
            used, software decodes and the report gives the reason.

    Attributes:
        info: metadata of the file, with measured duration and frame count.
        report: decode report of the latest iterator; complete once the iterator is exhausted.
        sound_start_s: time zero of the frames on the clock of the file's sound; None if unknown.

    Raises:
        MediaError: the file can't be opened, holds no video, or no frame of it can be decoded.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        on_packet: Callable[[], None] = lambda: None,
        *,
        threads: int | None = None,
        hwaccel: str | None = None,
    ) -> None:
        self._probe = examine(path, on_packet)
        self._decode_pass = partial(DecodePass, self._probe, threads=threads, hwaccel=hwaccel, on_packet=on_packet)
        self.info: VideoInfo = self._probe.info
        self.sound_start_s = self._probe.index.zero_s
        self.report = DecodeReport(0, 0)
        self._running: list[Generator[Frame, None, None]] = []

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop all running iterators and close their files."""
        while self._running:
            self._running.pop().close()

    def frames(self, sampling: SamplingConfig) -> Iterator[Frame]:
        """Decode the sampled frames lazily, in presentation order.

        Returns:
            An iterator over full-resolution, upright RGB frames with square pixels. A frame lost to damage is replaced
            by a neighbor if possible. At its end the iterator raises ``DecodeError`` if fewer than half of the wanted
            frames could be decoded.

        Raises:
            UsageError: no frame lies in the selected time span.
        """
        index = self._probe.index
        # Without timestamps every frame is decoded.
        after_key = None if index.stamps is None else index.after_key
        chosen = choose_frames(index.times_s, index.duration_s, sampling, after_key)
        if not len(chosen):
            raise UsageError(
                f"no frame lies between the chosen start and end: it lasts {index.duration_s:.2f} s",
                path=self.info.path,
                advice="Choose an earlier start or a later end.",
            )
        # A lost frame isn't replaced by a frame from before the start.
        first, _ = span_of(index.times_s, sampling)
        return self._start(chosen, first=first, neighbors=True)

    def frames_at(self, times_s: Sequence[float]) -> Iterator[Frame]:
        """Decode the frame nearest to each wanted time lazily.

        Args:
            times_s: seconds on the player's clock, increasing.

        Returns:
            An iterator over one frame per time, even if times share a frame. A frame that can't be decoded is left out
            (compare ``time_s``). The iterator ends as that of ``frames``.
        """
        return self._start(nearest_frames(self._probe.index.times_s, times_s))

    def every_frame(self) -> Iterator[Frame]:
        """Decode all frames lazily, in presentation order, without those that can't be decoded."""
        return self._start(np.arange(len(self._probe.index)), needed_share=0.0)

    def _start(self, wanted: NDArray[np.int64], **options: Any) -> Iterator[Frame]:
        generator = self._deliver(wanted, **options)
        self._running.append(generator)
        return generator

    def _deliver(
        self, wanted: NDArray[np.int64], *, first: int = 0, neighbors: bool = False, needed_share: float = 0.5
    ) -> Generator[Frame, None, None]:
        index, delivered = self._probe.index, 0
        places, repeats = np.unique(wanted, return_counts=True)
        self.report = DecodeReport(len(wanted), 0)
        decoding = self._decode_pass(neighbors=neighbors)
        try:
            for start, end in pairwise((*index.parts, len(index))):
                inside = (places >= start) & (places < end)
                again = dict(zip((places[inside] - start).tolist(), repeats[inside].tolist(), strict=True))
                for asked, place, pixels, damaged in decoding.samples(
                    index.part(start, end), list(again), first - start
                ):
                    frame = Frame(float(index.times_s[start + place]), start + place, pixels, damaged)
                    for _ in range(again[asked]):
                        delivered += 1
                        yield frame
        finally:
            self.report = decoding.report(len(wanted), delivered)
        if len(wanted) and (not delivered or delivered < needed_share * len(wanted)):
            raise DecodeError(
                f"only {delivered} of {len(wanted)} frames could be decoded",
                path=self.info.path,
                advice="The file is damaged: copy or download it again.",
            )
