"""Optional hardware decoding through FFmpeg, such as NVDEC on CUDA devices.

Hardware decodes the same pictures as software, but in NV12 (interleaved colour planes), whose conversion to RGB differs
by one level of 255 in some pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from av.codec.hwaccel import HWAccel, hwdevices_available

from torchfakes_cli.video.open import AV_ERRORS

if TYPE_CHECKING:
    from av.codec.codec import Codec
    from av.video.codeccontext import VideoCodecContext


def device_of(name: str) -> HWAccel:
    """Returns PyAV's configuration for a device; decoders may fall back to software.

    Args:
        name: FFmpeg's device name, such as ``cuda``, ``vaapi`` or ``videotoolbox``; ``cuda:1`` for the second CUDA
            device.
    """
    kind, _, which = name.partition(":")
    return HWAccel(kind, device=which or None, allow_software_fallback=True)


def why_not(name: str, codec: Codec) -> str:
    """Returns the reason why a device can't decode a codec, or an empty string if it can.

    Args:
        name: device name, as for ``device_of``.
        codec: decoder to run on the device.
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
    """Returns whether a decoder in use runs on its device; it falls back to software for unsupported pictures."""
    formats = {config.format.name for config in context.codec.hardware_configs or () if config.format is not None}
    return context.pix_fmt in formats
