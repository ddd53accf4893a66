"""Frame index from arbitrary packet timestamps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from av.packet import Packet
from hypothesis import given
from hypothesis import strategies as st

from torchfakes_cli.video.index import FrameIndex, IndexBuilder
from torchfakes_cli.video.open import open_video

# Presentation stamp, decoding stamp, key frame; in ticks, far beyond what a real clock shows.
STAMP = st.none() | st.integers(-(2**40), 2**40) | st.integers(-500, 500)
PACKETS = st.lists(st.tuples(STAMP, STAMP, st.booleans()), max_size=40)
FORMATS = ["mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts", "avi", "h264"]


@pytest.fixture(scope="module")
def stream(barcode_clip: Path) -> object:
    with open_video(barcode_clip) as video:
        yield video.stream


def index_of(stamps: Sequence[tuple[int | None, int | None, bool]], stream: object, container: str) -> FrameIndex:
    builder = IndexBuilder()
    for pts, dts, key in stamps:
        packet: Packet = av.Packet(b"picture")
        packet.pts, packet.dts, packet.is_keyframe = pts, dts, key
        builder.add(packet)
    return builder.build(stream, container, 0)


@given(stamps=PACKETS, container=st.sampled_from(FORMATS))
def test_time_starts_at_zero_and_never_goes_back(
    stream: object, stamps: list[tuple[int | None, int | None, bool]], container: str
) -> None:
    index = index_of(stamps, stream, container)
    assert len(index) <= len(stamps)
    assert bool(len(index)) == bool(stamps)
    assert np.isfinite(index.times_s).all()
    assert index.times_s[:1].tolist() in ([], [0.0])
    assert (np.diff(index.times_s) >= 0).all()
    assert not len(index) or index.duration_s > index.times_s[-1]


@given(stamps=PACKETS, container=st.sampled_from(FORMATS))
def test_entry_packets_come_before_their_frames(
    stream: object, stamps: list[tuple[int | None, int | None, bool]], container: str
) -> None:
    index = index_of(stamps, stream, container)
    assert len(set(index.packets.tolist())) == len(index)
    assert (index.entries <= index.packets).all()
    keys = {0, *(number for number, (_, _, key) in enumerate(stamps) if key)}
    assert set(index.entries.tolist()) <= keys
    assert index.stamps is None or len(set(index.stamps.tolist())) == len(index)


@given(gaps=st.lists(st.integers(1, 400), min_size=1, max_size=30), start=st.integers(-(2**33), 2**33), data=st.data())
def test_distinct_timestamps_are_kept(stream: object, gaps: list[int], start: int, data: st.DataObject) -> None:
    """Frames are reordered in the file, and the earliest one starts the time line."""
    stamps = (start + np.cumsum([0, *gaps])).tolist()
    order = data.draw(st.permutations(stamps[1:]))
    packets = [(stamp, None, place == 0) for place, stamp in enumerate([stamps[0], *order])]
    index = index_of(packets, stream, "matroska,webm")
    tick = float(stream.time_base)
    assert index.times_s == pytest.approx((np.array(stamps) - start) * tick)
    assert index.stamps is not None
    assert index.stamps.tolist() == stamps
