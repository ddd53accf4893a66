"""Files that ask a reader to open other files or make connections; a scan must do neither.

The requests would reach the canary's HTTP server on 127.0.0.1. ``secret.ts`` and ``secret.mp4`` lie next to the
playlists: a scan that gives a verdict on one has read them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import cv2

from tests.torture.boxes import ftyp, full_box
from tests.torture.case import Canaries, Outcome, canary_case, case
from tests.torture.pictures import small_head
from tests.torture.sources import small_clip, small_transport_stream

if TYPE_CHECKING:
    from pathlib import Path

_NOTE = "to be refused without touching another file or the network"
_SECRET_STREAM = "secret.ts"
_SECRET_CLIP = "secret.mp4"


def write_text(place: Path, text: str) -> None:
    """Writes a playlist, with the files that it must not lead to beside it."""
    place.with_name(_SECRET_STREAM).write_bytes(small_transport_stream())
    place.with_name(_SECRET_CLIP).write_bytes(small_clip())
    place.write_bytes(text.encode())


def hls(*segments: str, key: str | None = None) -> str:
    """An HLS playlist of segments by their addresses, the first of them encrypted with a key at another."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:2", "#EXT-X-MEDIA-SEQUENCE:0"]
    if key is not None:
        lines.append(f'#EXT-X-KEY:METHOD=AES-128,URI="{key}"')
    for segment in segments:
        lines += ["#EXTINF:2.0,", segment]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def ffconcat(path: str) -> str:
    """FFmpeg's own list of files."""
    return f"ffconcat version 1.0\nfile '{path}'\n"


def dash(address: str) -> str:
    """A DASH manifest of one clip."""
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"'
        ' mediaPresentationDuration="PT2S" minBufferTime="PT1S"'
        ' profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
        '<AdaptationSet mimeType="video/mp4" contentType="video">'
        '<Representation id="0" bandwidth="1000" width="320" height="180" codecs="avc1.42c00d">'
        f"<BaseURL>{address}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    )


def session_description(port: int) -> str:
    """An SDP file, which has a reader open a UDP port and wait for what comes."""
    return (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    )


# --- HLS


@canary_case("j_playlists/http.m3u8", Outcome.ERROR, _NOTE)
def hls_of_http(place: Path, canaries: Canaries) -> None:
    write_text(place, hls(f"{canaries.url}/hls_m3u8.ts"))


@canary_case("j_playlists/http_hls_as.mp4", Outcome.ERROR, _NOTE)
def hls_of_http_renamed(place: Path, canaries: Canaries) -> None:
    write_text(place, hls(f"{canaries.url}/hls_mp4.ts"))


@canary_case("j_playlists/key_http.m3u8", Outcome.ERROR, _NOTE)
def hls_with_remote_key(place: Path, canaries: Canaries) -> None:
    write_text(place, hls(_SECRET_STREAM, key=f"{canaries.url}/hls_key"))


@case("j_playlists/passwd.m3u8", Outcome.ERROR, _NOTE)
def hls_of_system_file(place: Path) -> None:
    write_text(place, hls("file:///etc/passwd"))


@case("j_playlists/local_rel.m3u8", Outcome.ERROR, _NOTE)
def hls_of_neighbor(place: Path) -> None:
    write_text(place, hls(_SECRET_STREAM))


@case("j_playlists/local_abs.m3u8", Outcome.ERROR, _NOTE)
def hls_of_absolute_path(place: Path) -> None:
    write_text(place, hls(str(place.with_name(_SECRET_STREAM).absolute())))


@case("j_playlists/local_rel_as.mp4", Outcome.ERROR, _NOTE)
def hls_of_neighbor_renamed(place: Path) -> None:
    write_text(place, hls(_SECRET_STREAM))


@canary_case("j_playlists/concat_proto.m3u8", Outcome.ERROR, _NOTE)
def hls_of_concatenation(place: Path, canaries: Canaries) -> None:
    write_text(place, hls(f"concat:{canaries.url}/concat_proto|file:///etc/passwd"))


# --- other lists


@case("j_playlists/rel.ffconcat", Outcome.ERROR, _NOTE)
def list_of_neighbor(place: Path) -> None:
    write_text(place, ffconcat(_SECRET_STREAM))


@case("j_playlists/concat_as.mp4", Outcome.ERROR, _NOTE)
def list_renamed(place: Path) -> None:
    write_text(place, ffconcat(_SECRET_STREAM))


@case("j_playlists/abs.ffconcat", Outcome.ERROR, _NOTE)
def list_of_absolute_path(place: Path) -> None:
    write_text(place, ffconcat(str(place.with_name(_SECRET_STREAM).absolute())))


@canary_case("j_playlists/http.ffconcat", Outcome.ERROR, _NOTE)
def list_of_http(place: Path, canaries: Canaries) -> None:
    write_text(place, ffconcat(f"{canaries.url}/ffconcat.ts"))


@canary_case("j_playlists/http.mpd", Outcome.ERROR, _NOTE)
def dash_of_http(place: Path, canaries: Canaries) -> None:
    write_text(place, dash(f"{canaries.url}/mpd.mp4"))


@canary_case("j_playlists/http_mpd_as.mp4", Outcome.ERROR, _NOTE)
def dash_renamed(place: Path, canaries: Canaries) -> None:
    write_text(place, dash(f"{canaries.url}/mpd_as.mp4"))


@case("j_playlists/local.mpd", Outcome.ERROR, _NOTE)
def dash_of_neighbor(place: Path) -> None:
    write_text(place, dash(_SECRET_CLIP))


@canary_case("j_playlists/rtp.sdp", Outcome.ERROR, "opens a UDP port and waits")
def session(place: Path, canaries: Canaries) -> None:
    write_text(place, session_description(canaries.udp_port))


@canary_case("j_playlists/rtp_sdp_as.mp4", Outcome.ERROR, _NOTE)
def session_renamed(place: Path, canaries: Canaries) -> None:
    write_text(place, session_description(canaries.udp_port))


@canary_case("j_playlists/list.m3u", Outcome.ERROR, _NOTE)
def m3u_of_http(place: Path, canaries: Canaries) -> None:
    write_text(place, f"#EXTM3U\n{canaries.url}/m3u.mp4\n")


@canary_case("j_playlists/shortcut.strm", Outcome.SKIP, _NOTE)
def shortcut(place: Path, canaries: Canaries) -> None:
    write_text(place, f"{canaries.url}/strm.mp4\n")


# --- names and scripts that make FFmpeg open or run something


@case(
    "j_playlists/seq_%03d.png",
    Outcome.OK,
    "a pattern: opening this name reads seq_000.png, seq_001.png and so on",
    posix_only=True,
)
def picture_pattern(place: Path) -> None:
    for index in range(3):
        _write_png(place.with_name(f"seq_{index:03d}.png"), index)
    _write_png(place, 9)


def _write_png(place: Path, index: int) -> None:
    picture = cv2.cvtColor(small_head(index), cv2.COLOR_RGB2BGR)
    place.write_bytes(cv2.imencode(".png", picture)[1].tobytes())


@case("j_playlists/evil.avs", Outcome.SKIP, "an AviSynth script: runs where FFmpeg is built with it")
def avisynth_script(place: Path) -> None:
    write_text(place, "Version()\n")


@canary_case(
    "j_playlists/evil.vpy", Outcome.SKIP, "a VapourSynth script, which is Python: runs where FFmpeg is built with it"
)
def vapoursynth_script(place: Path, canaries: Canaries) -> None:
    write_text(place, f"open({str(canaries.payload_mark('vpy'))!r}, 'w')\n")


# --- a movie whose media lie in another file


@case(
    "j_playlists/external_dref.mov",
    Outcome.ERROR,
    "a QuickTime alias to secret.mp4: the media are in another file, which must not be opened",
)
def external_media(place: Path) -> None:
    secret = place.with_name(_SECRET_CLIP)
    secret.write_bytes(small_clip())
    place.write_bytes(ftyp() + _with_alias(_movie_box(small_clip()), _alias(secret)))


def _movie_box(clip: bytes) -> bytes:
    start = clip.index(b"moov") - 4
    (size,) = struct.unpack_from(">I", clip, start)
    return clip[start : start + size]


def _alias(target: Path) -> bytes:
    """A Macintosh alias record to a file: its name, and its path with colons."""
    name = target.name.encode()
    path = b"v:" + str(target.parent.absolute()).strip("/").replace("/", ":").encode() + b":" + name
    path += bytes(len(path) % 2)
    names = bytes(10) + b"\x01v" + bytes(26) + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0")
    levels = bytes(16) + struct.pack(">hh", 1, 1) + bytes(16)
    return names + levels + struct.pack(">hh", 2, len(path)) + path + struct.pack(">hh", -1, 0)


def _with_alias(moov: bytes, alias: bytes) -> bytes:
    """A movie's header whose data reference, "in this file", is replaced by an alias."""
    here = full_box(b"url ", 1)
    there = full_box(b"alis", 0, alias)
    changed = bytearray(moov.replace(here, there, 1))
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        place = changed.index(parent) - 4
        (size,) = struct.unpack_from(">I", changed, place)
        struct.pack_into(">I", changed, place, size + len(there) - len(here))
    return bytes(changed)
