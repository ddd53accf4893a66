"""Pixel formats and colors: depths, chroma, alpha, ranges, matrices, and high dynamic range.

VP9 of more than 8 bits is left out: the libvpx that PyAV bundles can't write it. HEVC of 12 bits stands in.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
from av.video.reformatter import ColorRange

from tests.torture.case import Outcome, add_case, case, steady
from tests.torture.encoding import H264, Encoding, encode, head_writer
from tests.torture.pictures import RATE, STEADY, head_clip

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.torture.case import Writer
    from tests.torture.pictures import Pixels

#: Numbers of ITU-T H.273, for the matrix, the primaries and the transfer function.
BT709 = 1
UNSPECIFIED = 2
SMPTE170M = 6
BT2020 = 9
PQ = 16

#: Numbers of FFmpeg's scaler for the matrix that it applies.
SCALER_BT709 = 1
SCALER_BT601 = 5
SCALER_BT2020 = 9

_MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
_PQ_TAGS = (
    "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"
    f":hdr-opt=1:max-cll=1000,400:master-display={_MASTERING}"
)
_HLG_TAGS = "log-level=none:colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc"


def hevc_10(parameters: str = "log-level=none") -> Encoding:
    """HEVC of 10 bits, with parameters of x265."""
    return Encoding("libx265", {"x265-params": parameters}, pixel_format="yuv420p10le", codec_tag="hvc1")


_ENCODINGS = {
    "b_h264_10bit.mp4": dataclasses.replace(H264, pixel_format="yuv420p10le"),
    "b_hevc_10bit.mp4": hevc_10(),
    "b_h264_444.mp4": dataclasses.replace(H264, pixel_format="yuv444p"),
    "b_h264_422_10.mp4": dataclasses.replace(H264, pixel_format="yuv422p10le"),
    "b_h264_rgb.mp4": Encoding("libx264rgb", {"preset": "ultrafast", "crf": "23"}, pixel_format="rgb24"),
    "b_hevc_444_12bit.mp4": dataclasses.replace(hevc_10(), pixel_format="yuv444p12le"),
    "b_vp9_444.webm": Encoding("libvpx-vp9", pixel_format="yuv444p"),
    "b_vp9_alpha.webm": Encoding("libvpx-vp9", pixel_format="yuva420p"),
    "b_prores4444_alpha.mov": Encoding("prores_ks", {"profile": "4"}, pixel_format="yuva444p10le"),
    "b_limited_range_untagged.mp4": H264,
    "b_hdr10_pq_tags.mp4": hevc_10(_PQ_TAGS),
    "b_hlg_tags.mp4": hevc_10(_HLG_TAGS),
}
_NOTES = {
    "b_hdr10_pq_tags.mp4": "declared as PQ, but pictured as ever",
    "b_hlg_tags.mp4": "declared as HLG, but pictured as ever",
}

for _name, _encoding in _ENCODINGS.items():
    add_case(_name, Outcome.OK, head_writer(_encoding), _NOTES.get(_name, ""), **STEADY)


@dataclasses.dataclass(frozen=True, slots=True)
class Colors:
    """How RGB becomes YUV, and what the file says of it.

    Attributes:
        conversion: matrix that is applied, by the scaler's number.
        matrix: declared one, by the number of H.273; so are the next two.
        primaries: declared ones.
        transfer: declared function.
        full_range: whether black is 0 and white 255, applied and declared.
    """

    conversion: int = SCALER_BT601
    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    full_range: bool = False

    def frames(self, pictures: Iterable[Pixels | NDArray[np.uint16]], pixel_format: str) -> Iterator[av.VideoFrame]:
        """H×W×3 RGB pictures of 8 or 16 bits as frames of a pixel format that declare these colors."""
        span = ColorRange.JPEG if self.full_range else ColorRange.MPEG
        for picture in pictures:
            rgb = av.VideoFrame.from_ndarray(picture, "rgb24" if picture.dtype == np.uint8 else "rgb48le")
            frame = rgb.reformat(format=pixel_format, dst_colorspace=self.conversion, dst_color_range=span)
            frame.colorspace, frame.color_range = self.matrix, span
            frame.color_primaries, frame.color_trc = self.primaries, self.transfer
            yield frame


def colors_writer(colors: Colors, pixel_format: str = "yuv420p") -> Writer:
    """A writer of the talking head in H.264 with such colors."""

    def write(place: Path) -> None:
        encode(place, colors.frames(head_clip(), pixel_format), H264)

    return write


_COLORS = {
    "b_full_range.mp4": Colors(full_range=True),
    "b_bt709.mp4": Colors(SCALER_BT709, BT709, BT709, BT709),
    "b_bt601.mp4": Colors(SCALER_BT601, SMPTE170M, SMPTE170M, SMPTE170M),
}

for _name, _colors in _COLORS.items():
    add_case(_name, Outcome.OK, colors_writer(_colors), **STEADY)

# FFmpeg makes gray of full range only.
_GRAY = colors_writer(Colors(full_range=True), "gray")
add_case("b_h264_gray.mp4", Outcome.OK, _GRAY, "no chroma", **STEADY)


# --- high dynamic range

#: Linear RGB of BT.709 to that of BT.2020 (ITU-R BT.2087).
_TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
#: Luminance of white in cd/m² (ITU-R BT.2408), and that of the top of the PQ scale.
_WHITE, _PEAK = 203, 10_000


def to_pq(picture: Pixels) -> NDArray[np.uint16]:
    """An sRGB picture as 16-bit RGB with the primaries of BT.2020 and the transfer function PQ (SMPTE ST 2084)."""
    linear = (np.arange(256) / 255) ** 2.2
    light = np.clip(linear[picture] @ _TO_BT2020.T * _WHITE / _PEAK, 0, 1) ** 0.1593017578125
    signal = ((0.8359375 + 18.8515625 * light) / (1 + 18.6875 * light)) ** 78.84375
    return (signal * 65535).astype(np.uint16)


@case(
    "b_hdr10_real_pq.mp4",
    Outcome.OK,
    "really PQ and BT.2020: gray and dark if taken for an ordinary picture",
    frames=50,
    duration_s=2.0,
    fps=Fraction(RATE),
    first_time_s=0.0,
    frame_time=steady(RATE),
    faces=True,
)
def real_pq(place: Path) -> None:
    colors = Colors(SCALER_BT2020, BT2020, BT2020, PQ)
    pictures = (to_pq(picture) for picture in head_clip()[:50])
    encode(place, colors.frames(pictures, "yuv420p10le"), hevc_10(_PQ_TAGS))
