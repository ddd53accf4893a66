"""What a video encoder leaves of pictures, without writing a file."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

#: x264's whole range of quality; 23 is its default, and 40 is FaceForensics++'s strongest.
MAX_CRF = 51


def h264_round_trip(pictures: Sequence[Picture], crf: int, *, preset: str = "veryfast") -> list[Picture]:
    """Compress pictures as consecutive frames of one H.264 video at a constant quality, and decompress them.

    Args:
        pictures: one or more, all H×W×3 uint8 RGB of one size; 4:2:0 colour is used as by nearly every video.
        crf: 0 (hardly any loss) to 51.
        preset: of x264: how hard it searches.

    Returns:
        As many pictures, of the same size.

    Raises:
        ValueError: no pictures, pictures of several sizes, or a quality out of range.
    """
    if not 0 <= crf <= MAX_CRF:
        raise ValueError(f"the CRF lies between 0 and {MAX_CRF}, not at {crf}")
    if len({picture.shape for picture in pictures}) != 1:
        raise ValueError("give one or more pictures of one size")
    height, width = pictures[0].shape[:2]
    encoder: VideoCodecContext = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = width + width % 2, height + height % 2
    encoder.pix_fmt = "yuv420p"
    encoder.time_base = Fraction(1, 25)
    encoder.thread_count = 1
    encoder.options = {"crf": str(crf), "preset": preset, "x264-params": "log-level=none"}
    decoder: VideoCodecContext = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    # Threads for each conversion of a small picture cost ten times what they bring, and more where others are at work.
    reformatter, threads = VideoReformatter(), 1
    packets = []
    for place, picture in enumerate(pictures):
        # 4:2:0 needs even sides: the last row and column are doubled, and cut off again below.
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        frame = reformatter.reformat(frame, format="yuv420p", threads=threads)
        frame.pts = place
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    frames = [frame for packet in packets for frame in decoder.decode(packet)] + decoder.decode(None)
    shown = [reformatter.reformat(frame, format="rgb24", threads=threads).to_ndarray() for frame in frames]
    decoded = [picture[:height, :width] for picture in shown]
    if len(decoded) != len(pictures):
        raise ValueError(f"{len(decoded)} of {len(pictures)} pictures came back from the encoder")
    return [np.ascontiguousarray(picture, np.uint8) for picture in decoded]
