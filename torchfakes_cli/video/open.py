"""Opens untrusted video files safely; errors give the reason in one line.

FFmpeg follows the instructions in a file: playlists open other files and addresses, devices and pipes never end, and a
tiny file can declare a huge picture. So only regular files are opened, only through the ``file`` protocol, only in
self-contained formats, with limits on picture size and number of streams.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.stream import Disposition

from torchfakes_cli.errors import (
    DecodeError,
    MediaError,
    NoVideoStreamError,
    TooLargeError,
    UnreadableFileError,
    UnsupportedMediaError,
)
from torchfakes_cli.video.options import MAX_PIXELS, VIDEO_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from av.codec.hwaccel import HWAccel
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

#: Self-contained formats; playlists and other formats that reference files are excluded on purpose.
_FORMATS = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,apng,mxf,nut,ivf,h264,hevc,m4v,obu,yuv4mpegpipe,dv,rm,"
    "live_flv,swf,vc1,wtv,nsv,amv"
)

_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": _FORMATS,
    "max_pixels": str(MAX_PIXELS),
    "max_streams": "64",
}

#: Exceptions that PyAV raises on damaged files.
AV_ERRORS = (av.FFmpegError, OSError, ValueError, IndexError, AssertionError, OverflowError, RuntimeError)


@contextmanager
def damage_ignored() -> Iterator[None]:
    """Ignore errors of PyAV on damaged files, except a lack of memory."""
    try:
        yield
    except MemoryError:
        raise
    except AV_ERRORS:
        pass


#: FFmpeg's single-picture formats. Its other picture reader (image2) treats a name with ``%d`` as a sequence of files.
_PICTURE_FORMATS = {"JPEG": "jpeg_pipe", "PNG": "png_pipe", "WebP": "webp_pipe"}

#: Brands of still pictures in MP4 boxes (ISO/IEC 23008-12, AV1 Image File Format); picture sequences have other brands.
_HEIF_BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"heis": "HEIC", b"mif1": "HEIC", b"avif": "AVIF"}

_EBML = b"\x1a\x45\xdf\xa3"
_MATROSKA_SEGMENT = b"\x18\x53\x80\x67"
_UNKNOWN_RIFF_SIZE = 0xFFFF_FF00

_NOT_SHOWN = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.dependent

_READABLE = "Give it a video file such as MP4, MOV, MKV, WebM, AVI or MPEG, or a picture (JPEG, PNG, WebP, AVIF, HEIC)."

#: Signatures of other files that are often mistaken for, or renamed to, videos.
_SIGNATURES = {
    b"ID3": "sound",
    b"fLaC": "sound",
    b"PK\x03\x04": "an archive",
    b"\x1f\x8b": "an archive",
    b"Rar!": "an archive",
    b"7z\xbc\xaf": "an archive",
    b"%PDF": "a document",
    b"\x7fELF": "a program",
    b"MZ": "a program",
}

_TEXT_BYTES = bytes([9, 10, 12, 13, 27, *range(32, 127), *range(128, 256)])


@dataclass(frozen=True, slots=True)
class OpenVideo:
    """An open container and the video stream that a player shows; a context manager that closes the container.

    Attributes:
        video_streams: number of video streams that a player could show.
        cut_short: whether the file is smaller than the size declared at its beginning.
        picture: whether the file is a still picture.
        converted: original format of a picture that was converted for FFmpeg; empty without conversion.
    """

    container: InputContainer
    stream: VideoStream
    video_streams: int
    cut_short: bool
    picture: bool
    converted: str = ""

    @property
    def format_name(self) -> str:
        """FFmpeg's short name of the file format."""
        return self.converted or self.container.format.name

    def __enter__(self) -> OpenVideo:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()


def open_video(path: str | PathLike[str], device: HWAccel | None = None, *, edit_lists: bool = True) -> OpenVideo:
    """Open a file and select the video stream that a player shows, or the still picture.

    Args:
        path: path of the file.
        device: hardware device for decoding.
        edit_lists: apply the edit lists of MP4 and MOV; otherwise all samples are read with their media times.

    Raises:
        MediaError: the file can't be read, is rejected on purpose, has no video stream to show, or is damaged.
    """
    head, size = _read_head(path)
    kind = picture_kind(head)
    if kind and Path(path).suffix.lower() in VIDEO_SUFFIXES:
        raise UnsupportedMediaError(
            f"{'an' if kind == 'AVIF' else 'a'} {kind} picture with a video's name",
            path=path,
            advice=f"Rename it to .{kind.lower().replace('jpeg', 'jpg')}.",
        )
    if kind and kind not in _PICTURE_FORMATS:
        return _open_with_pillow(path, kind)
    picture = _PICTURE_FORMATS.get(kind)
    options = _OPTIONS | ({} if picture is None else {"format_whitelist": picture})
    if not edit_lists:
        options["ignore_editlist"] = "1"
    try:
        container = av.open(
            "file:" + str(Path(path).absolute()),
            "r",
            format=picture,
            metadata_errors="replace",
            options=options,
            hwaccel=device,
        )
    except MemoryError:
        raise
    except AV_ERRORS as error:
        raise _translated(error, path, head) from error
    try:
        stream, video_streams = _shown_stream(container, path)
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    except MediaError:
        container.close()
        raise
    return OpenVideo(container, stream, video_streams, _stated_size(head) > size, picture is not None)


def picture_kind(head: bytes) -> str:
    """Return the format of a still picture by the start of its file, such as ``JPEG`` or ``HEIC``; else nothing."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG") and b"acTL" not in head:
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP" and b"ANIM" not in head[:64]:
        return "WebP"
    if head.startswith((b"II*\0", b"MM\0*")):
        return "TIFF"
    if head.startswith(b"BM") and head[15:18] == bytes(3):
        return "BMP"
    kind = _HEIF_BRANDS.get(head[8:12], "") if head[4:8] == b"ftyp" else ""
    return "AVIF" if kind and b"avif" in head[16 : int.from_bytes(head[:4], "big")] else kind


def _open_with_pillow(path: str | PathLike[str], kind: str) -> OpenVideo:
    """Decode a HEIC, AVIF, BMP or TIFF picture, upright and with joined tiles, and open the result with FFmpeg."""
    from PIL import Image, ImageOps

    if kind == "HEIC":
        try:
            from pillow_heif import register_heif_opener
        except ImportError as error:
            raise UnsupportedMediaError(
                "HEIC pictures need pillow-heif",
                path=path,
                advice="Convert it to JPEG, or run: pip install 'torchfakes[heif]'",
            ) from error
        register_heif_opener()
    stored = BytesIO()
    try:
        with Image.open(path, formats=("HEIF" if kind == "HEIC" else kind,)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise TooLargeError(
                    f"more than {MAX_PIXELS // 1_000_000} megapixels", path=path, advice="Scale it down first."
                )
            ImageOps.exif_transpose(picture).convert("RGB").save(stored, "PPM")
    except (MemoryError, MediaError):
        raise
    except Exception as error:
        raise DecodeError(
            f"this {kind} picture can't be decoded", path=path, advice="It may be damaged, or convert it to JPEG."
        ) from error
    stored.seek(0)
    container = av.open(stored, "r", format="ppm_pipe")
    return OpenVideo(container, container.streams.video[0], 1, cut_short=False, picture=True, converted=kind.lower())


def _read_head(path: str | PathLike[str]) -> tuple[bytes, int]:
    """Return the first 4096 bytes and the size of a regular, non-empty file, without blocking on a pipe."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        mode = Path(path).stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise UnreadableFileError(what, path=path, advice=_READABLE)
        with os.fdopen(os.open(path, flags), "rb") as file:
            head, size = file.read(4096), os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise UnreadableFileError("no such file", path=path, advice="Check the name and the folder.") from error
    except PermissionError as error:
        raise UnreadableFileError("may not be read", path=path, advice="Check its permissions.") from error
    except (OSError, ValueError) as error:
        cause = "can't be read: " + (getattr(error, "strerror", None) or str(error)).lower()
        raise UnreadableFileError(cause, path=path, advice="Check the name and the disk.") from error
    if not head:
        raise UnreadableFileError("empty file", path=path, advice="Copy or download it again.")
    return head, size


def _translated(error: BaseException, path: str | PathLike[str], head: bytes) -> MediaError:
    """Translate PyAV's error on opening a file that starts with ``head``."""
    if isinstance(error, PermissionError):
        return UnreadableFileError("may not be read", path=path, advice="Check its permissions.")
    what, advice = _something_else(head)
    if what:
        return UnsupportedMediaError(what, path=path, advice=advice)
    if isinstance(error, av.error.ArgumentError):
        return UnsupportedMediaError("not a video format that is read here", path=path, advice=_READABLE)
    if head[4:8] in {b"ftyp", b"moov", b"mdat", b"free", b"wide"}:
        cause = "truncated or damaged: its table of contents (moov) is missing"
        return DecodeError(cause, path=path, advice="Copy or download it again, or repair it.")
    return DecodeError("not a video, or damaged beyond reading", path=path, advice=_READABLE)


def _something_else(head: bytes) -> tuple[str, str]:
    """Identifie a file that isn't a video; returns its description and advice, both empty if unknown."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    playlist = text.startswith((b"#extm3u", b"ffconcat", b"v=0", b"<smil", b"[playlist]"))
    if playlist or (text.startswith(b"<") and (b"<mpd" in text or b"<playlist" in text)):
        return "playlist refused: it would open other files or addresses", "Give the video file itself."
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the video", "Fetch the video with 'git lfs pull'."
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, not a video", "Download the video itself."
    for start, what in _SIGNATURES.items():
        if head.startswith(start):
            return f"{what}, not a video", _READABLE
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP" and b"ANIM" in head[:64]:
        return "an animated WebP, which can't be decoded here", "Convert it to MP4 or GIF first."
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return "sound, not a video", _READABLE
    if not head.translate(None, _TEXT_BYTES):
        return "text, not a video", _READABLE
    return "", ""


def is_shown(stream: Stream) -> bool:
    """Return whether a player could show a video stream; cover art doesn't count."""
    return not stream.disposition & _NOT_SHOWN


def _shown_stream(container: InputContainer, path: str | PathLike[str]) -> tuple[VideoStream, int]:
    """Return the stream that a player shows and the number of candidates."""
    shown = [stream for stream in container.streams.video if is_shown(stream)]
    if not shown:
        raise NoVideoStreamError("no video stream", path=path, advice="It may hold sound or cover art only.")
    decodable = [stream for stream in shown if stream.codec_context is not None]
    if not decodable:
        raise UnsupportedMediaError(
            "its video codec is unknown or encrypted", path=path, advice="Convert it to H.264 in MP4 first."
        )
    # An animated AVIF has its first picture as a stream of its own.
    moving = [stream for stream in decodable if stream.frames != 1] or decodable
    best = next((stream for stream in moving if stream.disposition & Disposition.default), moving[0])
    return best, len(shown) if len(moving) == len(decodable) else len(moving)


def _stated_size(head: bytes) -> int:
    """Return the file size declared at the start of a RIFF (AVI) or Matroska file; 0 if none is declared."""
    if head.startswith(b"RIFF"):
        size = int.from_bytes(head[4:8], "little")
        return 0 if size >= _UNKNOWN_RIFF_SIZE else size + 8
    segment = head.find(_MATROSKA_SEGMENT)
    if not head.startswith(_EBML) or segment < 0:
        return 0
    start = segment + len(_MATROSKA_SEGMENT)
    # EBML sizes have one to eight bytes: the leading zero bits of the first byte plus one. All ones means "unknown".
    length = 9 - head[start].bit_length() if start < len(head) else 9
    if length > 8:
        return 0
    mask = (1 << 7 * length) - 1
    size = int.from_bytes(head[start : start + length], "big") & mask
    return 0 if size == mask else start + length + size
