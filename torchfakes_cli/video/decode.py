"""Decodes the wanted frames of a video, and no more than they need."""

from __future__ import annotations

import os
import sys
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av
import numpy as np

from torchfakes_cli.errors import DecodeError, UsageError
from torchfakes_cli.records import DecodeReport, Frame, VideoInfo
from torchfakes_cli.video.index import PacketReader
from torchfakes_cli.video.opening import AV_ERRORS, OpenVideo, open_video
from torchfakes_cli.video.picture import PictureMaker
from torchfakes_cli.video.sampling import choose_frames, nearest_frames
from torchfakes_cli.video.survey import Survey, survey

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from os import PathLike
    from types import TracebackType

    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from torchfakes_cli.config import SamplingConfig

#: Pictures above this many pixels (4K) are decoded without frame threads, each of which holds several of them.
_FRAME_THREADS_PIXELS = 4096 * 2304

#: Decoders that look at ``skip_frame`` packet by packet; others read it once, when they open.
_SKIPPING_DECODERS = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})

#: How many key frames earlier careful decoding begins; a picture that is refreshed in stripes is whole after that many.
_KEYS_BACK = 2


class _LostError(Exception):
    """Fast decoding met damage: decode again with care from the first frame that is missing."""


class VideoReader:
    """Reads sampled frames from one video file; a context manager.

    Opening looks at the first frame and counts the rest, so ``info`` tells true times, not the header's.

    Args:
        path: of the video file.
        on_packet: called for every packet that is read, a sign of progress.

    Raises:
        MediaError: the file can't be opened, holds no video, or no frame of it can be decoded.
    """

    def __init__(self, path: str | PathLike[str], on_packet: Callable[[], None] | None = None) -> None:
        self._path = os.fspath(path)
        self._on_packet = on_packet
        self._survey = survey(path, on_packet)
        self._report = DecodeReport(0, 0)
        self._running: list[Generator[Frame, None, None]] = []

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every iterator that is still running, and closes its file."""
        while self._running:
            self._running.pop().close()

    @property
    def info(self) -> VideoInfo:
        """What is known of the file; duration and number of frames are counted."""
        return self._survey.info

    @property
    def report(self) -> DecodeReport:
        """How the latest iterator went; complete once it is exhausted."""
        return self._report

    def frames(self, sampling: SamplingConfig) -> Iterator[Frame]:
        """Decodes the sampled frames, lazily and in order of presentation.

        Args:
            sampling: which frames are wanted.

        Returns:
            An iterator over frames of full resolution: upright, square pixels, RGB. Where damage loses a frame, a
            neighbour stands in if there is one. At its end it raises ``DecodeError`` where fewer than half of the
            wanted frames could be decoded.

        Raises:
            UsageError: no frame lies in the wanted span.
        """
        index = self._survey.index
        chosen = choose_frames(index.times_s, index.duration_s, sampling)
        if not len(chosen):
            raise UsageError(
                f"no frame lies between the chosen start and end: it lasts {index.duration_s:.2f} s",
                path=self._path,
                advice="Choose an earlier start or a later end.",
            )
        # No frame from before the start stands in for one that is lost.
        first = int(np.searchsorted(index.times_s, sampling.start_s, side="left"))
        return self._start(chosen, first=first, neighbours=True)

    def frames_at(self, times_s: Sequence[float]) -> Iterator[Frame]:
        """Decodes the frame nearest to each wanted time, lazily.

        Args:
            times_s: seconds from the first frame, increasing.

        Returns:
            An iterator over one frame a time, the same one again where two times share it. A frame that can't be
            decoded is left out: compare ``time_s``. At its end it raises ``DecodeError`` where fewer than half of them
            could be decoded.
        """
        return self._start(nearest_frames(self._survey.index.times_s, times_s), first=0, neighbours=False)

    def _start(self, wanted: NDArray[np.int64], *, first: int, neighbours: bool) -> Iterator[Frame]:
        run = _Decoding(self._path, self._survey, first=first, neighbours=neighbours, on_packet=self._on_packet)
        generator = self._deliver(wanted, run)
        self._running.append(generator)
        return generator

    def _deliver(self, wanted: NDArray[np.int64], run: _Decoding) -> Generator[Frame, None, None]:
        places, repeats = np.unique(wanted, return_counts=True)
        again = dict(zip(places.tolist(), repeats.tolist(), strict=True))
        delivered = 0
        self._report = DecodeReport(len(wanted), 0)
        try:
            for sample in run.samples(places.tolist()):
                time_s = float(self._survey.index.times_s[sample.place])
                frame = Frame(time_s, sample.place, sample.pixels, sample.damaged)
                for _ in range(again[sample.wanted]):
                    delivered += 1
                    yield frame
        finally:
            self._report = _report(len(wanted), delivered, run)
        if delivered * 2 < len(wanted):
            raise DecodeError(
                f"only {delivered} of {len(wanted)} frames could be decoded",
                path=self._path,
                advice="The file is damaged: copy or download it again.",
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """A picture, its place in presentation order, the wanted place that it serves, and whether parts are made up."""

    wanted: int
    place: int
    pixels: NDArray[np.uint8]
    damaged: bool


class _Decoding:
    """One run over a file that brings wanted frames, known by their place in presentation order.

    At first it decodes fast: threads work on several frames at once, and frames that nothing depends on are left out.
    At the first sign of damage it starts again, from the first frame still missing, with care: one frame at a time,
    nothing left out, damaged packets skipped and counted.

    Args:
        path: of the file.
        survey: what is known of it.
        first: place of the first frame that may be brought.
        neighbours: for a frame that is lost, the nearest frame before the next wanted one may stand in.
        on_packet: called for every packet that is read.

    Attributes:
        packets_bad: packets the decoder refused.
        pictures_damaged: delivered pictures of which the decoder had to make up parts.
        damage_met: fast decoding met damage, if only between the wanted frames.
    """

    def __init__(
        self, path: str, survey: Survey, *, first: int, neighbours: bool, on_packet: Callable[[], None] | None
    ) -> None:
        self._path = path
        self._on_packet = on_packet
        self._index = survey.index
        self._orientation = survey.orientation
        self._neighbours = neighbours
        self._last_place = first - 1
        self.packets_bad = 0
        self.pictures_damaged = 0
        self.damage_met = False

    def samples(self, places: Sequence[int]) -> Generator[_Sample, None, None]:
        """Brings the frames at increasing ``places``; what can't be decoded is left out."""
        missing = deque(places)
        # Without timestamps frames are counted, and a count bears no loss.
        careful = self._index.stamps is None
        while missing:
            try:
                yield from self._pass(missing, careful=careful)
            except _LostError:
                careful = self.damage_met = True
            else:
                return

    def _pass(self, missing: deque[int], *, careful: bool) -> Generator[_Sample, None, None]:
        """Decodes once through the file; takes from ``missing`` what it yields or, if ``careful``, knows to be lost.

        Raises:
            _LostError: not ``careful``, and a packet was refused or a frame didn't come.
        """
        with open_video(self._path) as video:
            maker = PictureMaker(video.stream.sample_aspect_ratio, self._orientation)
            frames = self._decoded_frames(video, list(missing), careful=careful)
            for wanted, place, frame in self._matched(frames, missing, careful=careful):
                try:
                    pixels = maker.make(frame)
                except MemoryError:
                    raise
                except AV_ERRORS:
                    self.packets_bad += 1
                    continue
                self._last_place = place
                self.pictures_damaged += frame.is_corrupt
                yield _Sample(wanted, place, pixels, frame.is_corrupt)
        if missing and not careful:
            raise _LostError

    def _matched(
        self, frames: Iterator[tuple[int, VideoFrame]], missing: deque[int], *, careful: bool
    ) -> Generator[tuple[int, int, VideoFrame], None, None]:
        """Picks the wanted frames, as (wanted place, place, frame), from those that the decoder brings in order.

        For a frame that is damaged or doesn't come, a whole neighbour stands in where neighbours may and one comes
        before the next wanted frame; else the damaged frame is better than none.

        Raises:
            _LostError: not ``careful``, and a frame didn't come.
        """
        spare: tuple[int, VideoFrame] | None = None  # whole, and before the wanted one
        damaged: tuple[int, VideoFrame] | None = None  # the wanted one itself, but damaged
        seen = self._last_place
        for place, frame in frames:
            if place <= seen:
                continue
            seen = place
            lost: int | None = None
            while missing and place > missing[0]:
                if not careful:
                    raise _LostError
                lost = missing.popleft()
                if spare is not None:
                    yield lost, *spare
                    lost = spare = None
                elif damaged is not None and missing and place >= missing[0]:
                    yield lost, *damaged  # for this frame is wanted itself
                    lost = damaged = None
            if missing and place == missing[0]:
                if not (frame.is_corrupt and careful and self._neighbours):
                    yield missing.popleft(), place, frame
                    spare = None
                elif spare is not None:
                    yield missing.popleft(), *spare
                    spare = None
                else:
                    damaged = place, frame
            elif lost is not None and self._neighbours:
                yield (lost, *damaged) if damaged is not None and frame.is_corrupt else (lost, place, frame)
                damaged = None
            elif self._neighbours and careful and not frame.is_corrupt:
                spare = place, frame
            if not missing:
                return
        last = spare or damaged
        if last is not None and missing:
            yield missing.popleft(), *last

    def _decoded_frames(
        self, video: OpenVideo, places: list[int], *, careful: bool
    ) -> Generator[tuple[int, VideoFrame], None, None]:
        """Decodes what the frames at ``places`` need, and yields what comes, as (place, frame).

        Raises:
            _LostError: not ``careful``, and a packet was refused.
        """
        context = video.stream.codec_context
        small = context.width * context.height <= _FRAME_THREADS_PIXELS
        context.thread_type = "AUTO" if small and not careful else "SLICE"
        if not careful and not self._index.leading.any():
            # Threads patch up damaged pictures differently each time: have damage reported instead. Entering a stream
            # of open GOPs would be reported, too.
            context.options = {**context.options, "err_detect": "explode"}
        if careful:
            # Some decoders (HEVC) keep pictures with flaws to themselves. Whole ones are preferred, see ``_matched``.
            context.options = {**context.options, "flags": "+output_corrupt"}
        skipping = context.name in _SKIPPING_DECODERS and not careful
        needed = {int(self._index.packets[place]) for place in places}
        finder = _PlaceFinder(self._index.stamps)
        packets = enumerate(PacketReader(video, self._on_packet))
        for start, end in self._spans(places, careful=careful):
            entering = not careful
            for number, packet in packets:
                if number < start:
                    continue
                entering &= number == start or not packet.is_keyframe
                if entering and self._index.leading[number]:
                    continue
                if skipping:
                    context.skip_frame = "DEFAULT" if number in needed else "NONREF"
                yield from self._identified(context, packet, finder, careful=careful)
                if number >= end:
                    break
            yield from self._identified(context, None, finder, careful=careful)
            context.flush_buffers()

    def _spans(self, places: list[int], *, careful: bool) -> list[tuple[int, int]]:
        """The stretches of packets, as (first, last) numbers, that must be decoded for some frames.

        Each begins at a key frame and ends with the last packet needed: what lies between two of them isn't decoded.
        Passing over packets is nearly as cheap as seeking, and works in every container. If ``careful``, each begins
        some key frames earlier, for there are such as build up over the time to the next (intra refresh).
        """
        if self._index.stamps is None:
            return [(0, sys.maxsize)]
        entries = self._index.entries
        if careful:
            distinct = np.unique(entries)
            entries = distinct[np.maximum(np.searchsorted(distinct, entries) - _KEYS_BACK, 0)]
        spans: list[tuple[int, int]] = []
        for place in places:
            start, end = int(entries[place]), int(self._index.packets[place])
            if spans and start <= spans[-1][1]:
                spans[-1] = (spans[-1][0], max(spans[-1][1], end))
            else:
                spans.append((start, end))
        return spans

    def _identified(
        self, context: VideoCodecContext, packet: Packet[VideoStream] | None, finder: _PlaceFinder, *, careful: bool
    ) -> Generator[tuple[int, VideoFrame], None, None]:
        """The frames that a packet completes, or with None those that the decoder still holds, as (place, frame)."""
        try:
            frames = context.decode(packet)
        except av.EOFError:
            return
        except AV_ERRORS as error:
            if not careful:
                raise _LostError from error
            if isinstance(error, MemoryError):  # care needs the least of it
                raise
            self.packets_bad += 1
            finder.skip()
            return
        for frame in frames:
            if frame.is_corrupt and not careful:
                raise _LostError
            place = finder.find(frame)
            if place is not None:
                yield place, frame


class _PlaceFinder:
    """Tells the place of a decoded frame in presentation order: by its timestamp or, without any, by counting."""

    def __init__(self, stamps: NDArray[np.int64] | None) -> None:
        self._places = None if stamps is None else dict(zip(stamps.tolist(), range(len(stamps)), strict=True))
        self._counted = 0

    def find(self, frame: VideoFrame) -> int | None:
        """The place of the next frame that was decoded; None for one that the index doesn't know."""
        if self._places is not None:
            return None if frame.pts is None else self._places.get(frame.pts)
        self._counted += 1
        return self._counted - 1

    def skip(self) -> None:
        """A packet was lost, and a frame with it."""
        self._counted += 1


def _report(wanted: int, delivered: int, run: _Decoding) -> DecodeReport:
    warnings = []
    if delivered < wanted:
        warnings.append(f"partial: {delivered} of {wanted} frames")
    if run.packets_bad:
        warnings.append(f"damaged packets skipped: {run.packets_bad}")
    if run.pictures_damaged:
        warnings.append(f"damaged pictures among the frames: {run.pictures_damaged} of {delivered}")
    if run.damage_met and not warnings:
        warnings.append("damaged in places; the frames looked at are whole")
    return DecodeReport(wanted, delivered, run.packets_bad, tuple(warnings))
