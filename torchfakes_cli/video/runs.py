"""Runs over a file that bring wanted frames: fast at first, with care where there is damage."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from av.video.frame import PictureType

from torchfakes_cli.errors import MediaError
from torchfakes_cli.video.cores import usable_cores
from torchfakes_cli.video.hardware import decodes_on_device, device_of, why_not
from torchfakes_cli.video.index import PacketReader
from torchfakes_cli.video.opening import AV_ERRORS, OpenVideo, open_video
from torchfakes_cli.video.picture import PictureMaker
from torchfakes_cli.video.side_by_side import decode_side_by_side, decoders_for, threads_for
from torchfakes_cli.video.spans import LostError, SpanDecoder, spans_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

    from torchfakes_cli.video.index import FrameIndex
    from torchfakes_cli.video.survey import Survey


#: Formats whose pictures build on the one before even where a packet is called a key frame: one decoder takes them all.
_IN_ORDER = frozenset({"apng"})


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """How to decode; none of it changes which frames come, nor what is in them.

    Attributes:
        threads: that may work at once; None for one a core, or one fewer, see ``threads_for``.
        hwaccel: a device to decode on where that can be had, see ``hardware``; None for software.
        on_packet: called for every packet that is read, a sign of progress; from several threads.
    """

    threads: int | None = None
    hwaccel: str | None = None
    on_packet: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A picture, its place in presentation order, the wanted place that it serves, and whether parts are made up."""

    wanted: int
    place: int
    pixels: NDArray[np.uint8]
    damaged: bool


class Decoding:
    """One run over a file that brings wanted frames, known by their place in presentation order.

    At first it decodes fast: threads work on several frames at once, and frames that nothing depends on are left out.
    At the first sign of damage it starts again, from the first frame still missing, with care: one frame at a time,
    nothing left out, damaged packets skipped and counted.

    Args:
        path: of the file.
        survey: what is known of it.
        index: of its frames, or of those of one part of its edit list.
        first: place of the first frame that may be brought.
        neighbours: for a frame that is lost, the nearest frame before the next wanted one may stand in.
        settings: how to decode.

    Attributes:
        packets_bad: packets the decoder refused.
        pictures_damaged: delivered pictures of which the decoder had to make up parts.
        pictures_fitted: pictures that had another size than the video's, and got borders.
        damage_met: fast decoding met damage, if only between the wanted frames.
        software_reason: why the wanted device wasn't used, as a sentence; empty where it was, or none was wanted.
    """

    def __init__(
        self,
        path: str,
        survey: Survey,
        index: FrameIndex,
        *,
        first: int,
        neighbours: bool,
        settings: DecodeSettings,
    ) -> None:
        self._path = path
        self._settings = settings
        self._index = index
        self._edit_lists = survey.edit_lists
        self._codec = survey.info.codec
        self._size = survey.info.width, survey.info.height
        self._pixels = survey.info.width * survey.info.height
        self._aspect = survey.aspect
        self._orientation = survey.orientation
        self._still = survey.info.picture
        self._neighbours = neighbours
        self._last_place = first - 1
        self.packets_bad = 0
        self.pictures_damaged = 0
        self.pictures_fitted = 0
        self.damage_met = False
        self.software_reason = ""

    def samples(self, places: Sequence[int]) -> Generator[Sample, None, None]:
        """Brings the frames at increasing ``places``; what can't be decoded is left out."""
        missing = deque(places)
        # Without timestamps frames are counted, and a count bears no loss.
        careful = self._index.stamps is None
        device = self._usable_device(careful=careful)
        while missing:
            try:
                yield from self._pass(missing, careful=careful, device=device)
            except LostError:
                if device is None:
                    careful, self.damage_met = True, not self._refreshes_gradually()
                else:
                    self.software_reason, device = f"{self._settings.hwaccel} failed at it: decoded in software", None
            else:
                return

    def _refreshes_gradually(self) -> bool:
        """Whether key frames aren't whole by themselves, but the pictures become so after them (intra refresh).

        Low-latency encoders do so. A decoder that enters there finds damage, though there is none.
        """
        keys = set(np.unique(self._index.entries)[:2].tolist())
        with open_video(self._path, edit_lists=self._edit_lists) as video:
            context = video.stream.codec_context
            context.options = {**context.options, "flags": "+output_corrupt"}
            for number, packet in enumerate(PacketReader(lambda: video.container.demux(video.stream))):
                if number in keys:
                    try:
                        frames = [*context.decode(packet), *context.decode(None)]
                    except MemoryError:
                        raise
                    except AV_ERRORS:
                        frames = []
                    context.flush_buffers()
                    if any(frame.pict_type != PictureType.I for frame in frames):
                        return True
                if number >= max(keys):
                    break
        return False

    def _usable_device(self, *, careful: bool) -> str | None:
        name = self._settings.hwaccel
        if name is None:
            return None
        with open_video(self._path, edit_lists=self._edit_lists) as video:
            reason = "its frames have no times" if careful else why_not(name, video.stream.codec_context.codec)
        if reason:
            self.software_reason = f"{name} can't be used ({reason}): decoded in software"
            return None
        return name

    def _pass(self, missing: deque[int], *, careful: bool, device: str | None) -> Generator[Sample, None, None]:
        """Decodes once through the file; takes from ``missing`` what it yields or, if ``careful``, knows to be lost.

        Raises:
            LostError: not ``careful``, and a packet was refused or a frame didn't come.
        """
        maker = PictureMaker(self._aspect, self._orientation, self._size)
        with closing(self._decoded(list(missing), careful=careful, device=device)) as frames:
            for wanted, place, frame in self._matched(frames, missing, careful=careful):
                try:
                    pixels = maker.make(frame)
                except MemoryError:
                    raise
                except AV_ERRORS:
                    self.packets_bad += 1
                    continue
                self._last_place = place
                # Decoders of still pictures fill up what is missing without a word, once they aren't told to stop.
                damaged = frame.is_corrupt or (careful and self._still)
                self.pictures_damaged += damaged
                self.pictures_fitted = self.pictures_fitted or maker.fitted
                yield Sample(wanted, place, pixels, damaged)
        if missing and not careful:
            raise LostError

    def _decoded(
        self, places: list[int], *, careful: bool, device: str | None
    ) -> Generator[tuple[int, VideoFrame], None, None]:
        """Decodes what the frames at ``places`` need, and yields these at least, as (place, frame).

        Raises:
            LostError: not ``careful``, and a packet was refused.
        """
        spans = spans_of(self._index, places, careful=careful)
        threads = self._settings.threads or threads_for(self._pixels, usable_cores())
        on_packet = self._settings.on_packet
        decoders = 1 if self._codec in _IN_ORDER else decoders_for(self._pixels, len(spans), len(places), threads)
        if decoders > 1 and not careful and device is None:
            yield from decode_side_by_side(
                self._path,
                self._index,
                spans,
                places,
                pixels=self._pixels,
                decoders=decoders,
                threads=threads // decoders,
                on_packet=on_packet,
                edit_lists=self._edit_lists,
            )
            return
        with self._opened(device) as video:
            threads = threads if device is None else 1
            decoder = SpanDecoder(video, self._index, places, careful=careful, threads=threads, on_packet=on_packet)
            try:
                for span in spans:
                    yield from decoder.frames(span)
            finally:
                self.packets_bad += decoder.refused
                if device is not None and not decodes_on_device(video.stream.codec_context):
                    self.software_reason = f"{device} doesn't suit its pictures: decoded in software"

    def _opened(self, device: str | None) -> OpenVideo:
        if device is None:
            return open_video(self._path, edit_lists=self._edit_lists)
        try:
            return open_video(self._path, device_of(device), edit_lists=self._edit_lists)
        except MediaError as error:  # its memory may be full by now
            raise LostError from error

    def _matched(
        self, frames: Iterator[tuple[int, VideoFrame]], missing: deque[int], *, careful: bool
    ) -> Generator[tuple[int, int, VideoFrame], None, None]:
        """Picks the wanted frames, as (wanted place, place, frame), from those that the decoder brings in order.

        For a frame that is damaged or doesn't come, a whole neighbour stands in where neighbours may and one comes
        before the next wanted frame; else the damaged frame is better than none.

        Raises:
            LostError: not ``careful``, and a frame didn't come.
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
                    raise LostError
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
