"""Diagnostics of video decoding on this machine: codecs, hardware devices, process limits."""

from __future__ import annotations

import av
from av.codec.codec import UnknownCodecError
from av.codec.hwaccel import hwdevices_available

from torchfakes_cli.errors import TorchfakesError
from torchfakes_cli.facts import Fact, Severity
from torchfakes_cli.video.decode import why_not
from torchfakes_cli.video.isolation.client import IsolatedDecoder
from torchfakes_cli.video.options import usable_cores

#: Common codecs and FFmpeg's software decoders for them; its native AV1 decoder needs hardware, so it isn't listed.
_CODECS = {
    "H.264": ("h264",),
    "H.265": ("hevc",),
    "AV1": ("libdav1d", "libaom-av1"),
    "VP9": ("vp9",),
    "VP8": ("vp8",),
    "MPEG-4": ("mpeg4",),
    "MPEG-2": ("mpeg2video",),
    "ProRes": ("prores",),
    "MJPEG": ("mjpeg",),
}


def decoding_diagnostics() -> list[Fact]:
    """Report the usable codecs and devices, and whether the decoding process starts and which limits hold for it."""
    present = {name: next((decoder for decoder in known if _has(decoder)), "") for name, known in _CODECS.items()}
    missing = [name for name, decoder in present.items() if not decoder]
    codecs = Fact(
        "decoders",
        ", ".join(name for name, decoder in present.items() if decoder) or "none",
        f"missing: {', '.join(missing)}" if missing else "all common codecs",
        Severity.GOOD if not missing else Severity.LIMITED if present["H.264"] else Severity.BROKEN,
    )
    threads = Fact(
        "decoding threads", str(usable_cores()), "one per core that this process may use; one fewer for small pictures"
    )
    ffmpeg = Fact("FFmpeg", av.ffmpeg_version_info, "comes with PyAV")
    if not present["H.264"]:
        return [ffmpeg, codecs]
    return [ffmpeg, codecs, threads, _devices(), *_process()]


def _has(decoder: str) -> bool:
    try:
        av.Codec(decoder, "r")
    except UnknownCodecError:
        return False
    return True


def _devices() -> Fact:
    reasons: dict[str, list[str]] = {}
    for kind in hwdevices_available():
        reasons.setdefault(why_not(kind, av.Codec("h264", "r")), []).append(kind)
    usable = reasons.pop("", [])
    return Fact(
        "hardware decoding",
        ", ".join(f"--hwaccel {kind}" for kind in usable) or "none: software decodes",
        "; ".join(f"{', '.join(kinds)}: {reason}" for reason, kinds in reasons.items()),
    )


def _process() -> list[Fact]:
    """Start the decoding process and report the restrictions that it verified for itself."""
    try:
        with IsolatedDecoder() as decoder:
            enforced = decoder.enforced()
    except TorchfakesError as error:
        return [Fact("decoding process", "doesn't start", str(error), Severity.BROKEN)]
    memory, rights = "memory" in enforced, [right for right in ("network", "file writes") if right in enforced]
    return [
        Fact("decoding process", "starts", "files are decoded in a separate process, which they may crash"),
        Fact("memory limit", "enforced", "Linux limits the memory of the decoding process")
        if memory
        else Fact("memory limit", "not enforced", "a hostile file may use all memory", Severity.LIMITED),
        Fact("decoder's rights", f"without {' and '.join(rights)}", "the kernel refuses them (seccomp)")
        if rights
        else Fact("decoder's rights", "those of its user", "this system can't restrict them", Severity.LIMITED),
    ]
