"""Decoding on a device made for it, such as the NVDEC of a CUDA card; an option, for it takes the device to be there.

A picture decoded there is the same, but comes with its colour planes interleaved (NV12), and its conversion to RGB then
differs by a step of 255 here and there from that of a picture decoded in software.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from av.codec.hwaccel import HWAccel, hwdevices_available

from torchfakes_cli.video.open import AV_ERRORS

if TYPE_CHECKING:
    from av.codec.codec import Codec
    from av.video.codeccontext import VideoCodecContext


def device_of(name: str) -> HWAccel:
    """What PyAV is to be given for a device.

    Args:
        name: FFmpeg's, such as ``cuda``, ``vaapi`` or ``videotoolbox``; ``cuda:1`` for the second of its kind.
    """
    kind, _, which = name.partition(":")
    return HWAccel(kind, device=which or None, allow_software_fallback=True)


def why_not(name: str, codec: Codec) -> str:
    """Why a device can't decode for a codec; empty where it can.

    Args:
        name: as for ``device_of``.
        codec: the decoder that is to be helped.
    """
    kind = name.partition(":")[0]
    known = hwdevices_available()
    if kind not in known:
        return f"this FFmpeg knows {', '.join(known) or 'none'}"
    if kind not in {config.device_type.name for config in codec.hardware_configs or () if config.is_supported}:
        return f"no decoder for {codec.name}"
    try:
        device_of(name).create(codec)
    except AV_ERRORS:
        return "no such device can be opened"
    return ""


def decodes_on_device(context: VideoCodecContext) -> bool:
    """Whether a decoder that has begun uses the device it was given: it may find that its pictures don't suit that."""
    formats = {config.format.name for config in context.codec.hardware_configs or () if config.format is not None}
    return context.pix_fmt in formats
