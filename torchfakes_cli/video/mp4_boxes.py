"""Parses the box structure of MP4 and QuickTime files (ISO/IEC 14496-12): box order, brands, edit lists.

All lengths and counts in the file are untrusted, so every read and every loop is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

#: Upper limits on the boxes read from a file, the edits of one list, and the brands.
_MOST_BOXES = 4096
_MOST_EDITS = 1024
_MOST_BRANDS = 32
#: Container boxes on the path to an edit list.
_FOLDERS = {b"moov", b"trak", b"edts"}
_FIRST = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid"}


Edit = tuple[int, int, float]


@dataclass(frozen=True, slots=True)
class Mp4Layout:
    """Box structure of an MP4 or QuickTime file.

    Attributes:
        boxes: types of the top-level boxes, in file order; consecutive boxes of one type are listed once.
        brands: brands of the file, the major brand first.
        edits: edit lists by track number; an edit is (length in movie time units, start in media time units, playback
            rate), with a start of -1 for an empty edit.
        movie_scale: movie time units per second; None if unknown.
    """

    boxes: tuple[str, ...]
    brands: tuple[str, ...]
    edits: dict[int, tuple[Edit, ...]]
    movie_scale: int | None


def read_layout(file: BinaryIO, size: int) -> Mp4Layout | None:
    """Reads the box structure of a file; returns None if the file doesn't consist of boxes.

    Args:
        file: open binary file, at any position.
        size: size of the file in bytes.
    """
    boxes: list[str] = []
    brands: tuple[str, ...] = ()
    edits: dict[int, tuple[Edit, ...]] = {}
    track = 0
    scale: int | None = None
    for depth, kind, start, end in _walk(file, 0, size, 0, [_MOST_BOXES]):
        if not boxes and kind not in _FIRST:
            return None
        if depth == 0 and boxes[-1:] != [_name(kind)]:
            boxes.append(_name(kind))
        if kind == b"ftyp" and depth == 0:
            brands = _brands(_content(file, start, end, 8 + 4 * _MOST_BRANDS))
        elif kind == b"tkhd":
            track = _number(_content(file, start, end, 32), 12, 20)
        elif kind == b"elst":
            edits[track] = _edits(_content(file, start, end, 8 + 20 * _MOST_EDITS))
        elif kind == b"mvhd":
            scale = _number(_content(file, start, end, 32), 12, 20) or None
    return Mp4Layout(tuple(boxes), brands, edits, scale) if boxes else None


def _walk(file: BinaryIO, start: int, end: int, depth: int, left: list[int]) -> Iterator[tuple[int, bytes, int, int]]:
    """Yields (depth, type, content start, content end) of each box between two offsets, container boxes recursively."""
    while start + 8 <= end and left[0] > 0:
        left[0] -= 1
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head[:8])
        content = start + 8
        if length == 1 and len(head) == 16:
            length, content = struct.unpack(">Q", head[8:])[0], start + 16
        elif length == 0:
            length = end - start
        if length < content - start:
            return
        last = min(start + length, end)
        yield depth, kind, content, last
        if kind in _FOLDERS and depth < 3:
            yield from _walk(file, content, last, depth + 1, left)
        start = last


def _content(file: BinaryIO, start: int, end: int, most: int) -> bytes:
    file.seek(start)
    return file.read(max(0, min(end - start, most)))


def _name(kind: bytes) -> str:
    return kind.decode("latin-1")


def _brands(content: bytes) -> tuple[str, ...]:
    """Returns the major brand and the compatible ones; the minor version between them is skipped."""
    parts = [content[place : place + 4] for place in range(0, len(content) - 3, 4)]
    return tuple(dict.fromkeys(_name(part) for part in parts[:1] + parts[2:]))


def _number(content: bytes, short: int, long: int) -> int:
    """Reads the 32-bit field that follows two version-dependent times; 0 if the content is too short."""
    place = long if content[:1] == b"\x01" else short
    return int.from_bytes(content[place : place + 4], "big")


def _edits(content: bytes) -> tuple[Edit, ...]:
    if len(content) < 8:
        return ()
    layout = struct.Struct(">Qqi" if content[0] == 1 else ">Iii")
    count = min(int.from_bytes(content[4:8], "big"), _MOST_EDITS, (len(content) - 8) // layout.size)
    entries = [layout.unpack_from(content, 8 + number * layout.size) for number in range(count)]
    return tuple((length, start, rate / 65536) for length, start, rate in entries)
