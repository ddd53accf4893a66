"""Writes pictures as an H.264 clip whose times are those of the pictures."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from torchfakes_cli.errors import OutputError
from torchfakes_cli.video.cores import usable_cores
from torchfakes_cli.video.opening import AV_ERRORS

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

#: MPEG's clock. Frames of 24, 25, 30, 50, 60 and 30000/1001 a second lie on it, all others within 6 µs.
CLOCK = 90_000

#: x264's quality and speed: drawings stay crisp, and encoding takes about as long as decoding and drawing.
_CRF = 20
_PRESET = "veryfast"

#: Seconds from one key frame to the next at most, so that a player gets to any moment at once.
_KEY_EACH_S = 2

#: MP4 counts how long a picture stays in 31 bits.
_LONGEST_TICKS = (1 << 31) - 1

_FALLBACK_RATE = Fraction(25)
_MOST_THREADS = 16

#: The longest side that x264 takes.
MAX_SIDE = 16384


class ClipWriter:
    """Writes an H.264 clip (MP4, 4:2:0, its index in front so that it plays while it loads); a context manager.

    Left by an error, the file is removed.

    Args:
        path: of the file, which is replaced.
        size: (width, height) of the pictures in pixels, both even.
        fps: about how many come a second; None if not known.
        container: ``mp4`` or ``mov``.
        comment: to write into the file.

    Raises:
        OutputError: there can be no such clip.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], *, fps: Fraction | None, container: str = "mp4", comment: str = ""
    ) -> None:
        if max(size) > MAX_SIDE:
            raise OutputError(
                f"H.264 takes no pictures of {size[0]}x{size[1]}", path=path, advice="Scale the video down first."
            )
        self._path = path
        self._reformatter = VideoReformatter()
        self._last = -1
        self._durations: dict[int, int] = {}
        rate = fps if fps is not None and 0 < fps <= 1000 else _FALLBACK_RATE
        self._output = av.open(str(path), "w", format=container, container_options={"movflags": "+faststart"})
        if comment:
            self._output.metadata["comment"] = comment
        options = {
            "crf": str(_CRF),
            "preset": _PRESET,
            "g": str(max(1, round(_KEY_EACH_S * rate))),
            "x264-params": "log-level=none",
        }
        self._stream = self._output.add_stream("libx264", rate=rate.limit_denominator(1001), options=options)
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = Fraction(1, CLOCK)
        context.thread_count = min(usable_cores(), _MOST_THREADS)
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        else:
            self._discard()

    def write(self, pixels: NDArray[np.uint8], time_s: float, duration_s: float) -> None:
        """Adds the next picture.

        Args:
            pixels: H×W×3 RGB of the clip's size, contiguous.
            time_s: when it is shown, later than the one before.
            duration_s: how long, if it is the last one.

        Raises:
            OutputError: it can't be written.
        """
        shown = av.VideoFrame.from_numpy_buffer(pixels, "rgb24")
        frame = self._reformatter.reformat(
            shown, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, threads=1
        )
        # Two pictures within a tick stay two.
        pts = max(self._last + 1, round(time_s * CLOCK))
        if pts - self._last > _LONGEST_TICKS:
            raise OutputError(
                f"a picture would stay for {(pts - self._last) / CLOCK / 3600:.0f} h, longer than a clip can hold",
                path=self._path,
                advice="The time stamps of the video are likely wrong.",
            )
        frame.pts = self._last = pts
        frame.time_base = Fraction(1, CLOCK)
        self._durations[frame.pts] = min(max(1, round(duration_s * CLOCK)), _LONGEST_TICKS)
        self._encode(frame)

    def _encode(self, frame: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                packet.duration = self._durations.pop(packet.pts or 0, 0)
                self._output.mux(packet)
        except MemoryError:
            raise
        except AV_ERRORS as error:
            raise self._unwritable(error) from error

    def _finish(self) -> None:
        try:
            self._encode(None)
            self._output.close()
        except AV_ERRORS as error:
            self._discard()
            raise self._unwritable(error) from error
        except BaseException:
            self._discard()
            raise

    def _discard(self) -> None:
        # Removed before it is closed: otherwise what is there would be rearranged for nothing.
        with suppress(OSError):
            self._path.unlink()
        with suppress(*AV_ERRORS):
            self._output.close()
        self._path.unlink(missing_ok=True)

    def _unwritable(self, error: BaseException) -> OutputError:
        reason = getattr(error, "strerror", None) or str(error)
        return OutputError(f"can't be written: {reason}", path=self._path)
