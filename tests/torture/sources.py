"""Clips from which cases are cut, copied and damaged; each is encoded once."""

from __future__ import annotations

import dataclasses
from functools import cache

from tests.torture.encoding import H264, Encoding, encoded_bytes, tone_bytes
from tests.torture.pictures import COUNT, RATE, head_clip, small_head_clip

_FASTSTART = {"movflags": "+faststart"}


@cache
def small_clip() -> bytes:
    """The 2 s clip of 320×180 pixels, an MP4 file, of the cases that are about a name or a place."""
    return encoded_bytes(".mp4", small_head_clip(), dataclasses.replace(H264, container_options=_FASTSTART))


@cache
def small_transport_stream() -> bytes:
    """The small clip as an MPEG transport stream."""
    return encoded_bytes(".ts", small_head_clip())


@cache
def plain(suffix: str) -> bytes:
    """The talking head in H.264 with a key frame a second and B-frames, in a container by its suffix."""
    return encoded_bytes(suffix, head_clip(), Encoding("libx264", {"crf": "20", "g": "25", "bf": "2"}))


@cache
def faststart() -> bytes:
    """The same as an MP4 file whose header comes first."""
    encoding = Encoding("libx264", {"crf": "20", "g": "25", "bf": "2"}, container_options=_FASTSTART)
    return encoded_bytes(".mp4", head_clip(), encoding)


@cache
def tone(suffix: str) -> bytes:
    """A tone as long as the talking head, in AAC."""
    return tone_bytes(suffix, COUNT / RATE, "aac")
