"""File provenance: container, streams, traces of encoders and programs, Content Credentials (C2PA)."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from io import FileIO
from itertools import islice
from os import PathLike
from typing import TYPE_CHECKING, Any

from PIL import Image

from torchfakes_cli.facts import Credentials, CredentialsState, Fact, FileFacts
from torchfakes_cli.video.index import Mp4Layout, read_layout
from torchfakes_cli.video.open import OpenVideo, damage_ignored, open_video

if TYPE_CHECKING:
    from av.stream import Stream

#: Number of packets at the start of the video stream that are searched for encoder notes, and bytes of each.
_PACKETS = 4
_PACKET_BYTES = 1 << 16
#: Maximum length of a shown value and maximum numbers of shown items, because metadata can be arbitrarily long.
_MOST_CHARACTERS = 400
_MOST_TAGS = 40
_MOST_SHOWN_EDITS = 16
_MOST_ACTIONS = 20
_MOST_PROBLEMS = 10

#: Notes that encoders write into their streams: settings of x264 and x265 (user data SEI), version of Lavc.
_NOTES = (
    (re.compile(rb"x264 - core \d+[ -~]*"), "x264 is a software encoder: a computer or server encoded the picture"),
    (re.compile(rb"x265 \(build \d+\)[ -~]*"), "x265 is a software encoder: a computer or server encoded the picture"),
    (re.compile(rb"Lavc\d[0-9.]+"), "FFmpeg's encoders made the stream"),
)
#: Tags that name the program that wrote the file.
_WRITERS = ("encoder", "encoding_tool", "muxing_app", "writing_app", "software", "tool", "handler_name", "comment")
#: Tags that repeat other facts.
_TOLD = ("major_brand", "minor_version", "compatible_brands")
_MAKERS = (
    (
        re.compile(r"\bLavf\d", re.I),
        "FFmpeg wrote the container: the file was made or repacked by a program, not a camera",
    ),
    (re.compile(r"\bHandBrake\b", re.I), "HandBrake converts videos: this one was encoded again"),
    (
        re.compile(
            r"\b(Premiere|After Effects|Media Encoder|DaVinci|Final Cut|CapCut|iMovie|Vegas|Blender|VideoProc)\b", re.I
        ),
        "an editing program wrote it",
    ),
    (re.compile(r"\bMainconcept\b", re.I), "Adobe's programs write this, and others that use MainConcept's encoders"),
    (re.compile(r"\bGoogle\b", re.I), "Google's services (YouTube among them) write this when they convert uploads"),
)
_EXIF = {"make": 271, "model": 272, "software": 305, "time": 306}
_CAMERA = re.compile(r"(^|[.:])(make|model|manufacturer|android\.version|quicktime\.(make|model))$", re.I)


def describe_file(path: str | PathLike[str], on_progress: Callable[[], None] = lambda: None) -> FileFacts:
    """Collect all provenance facts of a file; calls ``on_progress`` repeatedly meanwhile.

    Raises:
        MediaError: the file can't be opened.
    """
    with open_video(path) as video:
        facts = list(_facts(video, path))
        on_progress()
    with _Watched(path, on_progress) as file:
        checksum, size = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
    return FileFacts(size, checksum, tuple(facts), read_credentials(path, on_progress))


def _facts(video: OpenVideo, path: str | PathLike[str]) -> Iterator[Fact]:
    container = video.container
    yield Fact("container", video.converted.upper() or container.format.long_name or container.format.name)
    if layout := read_layout(path):
        yield from _layout_facts(layout)
    if container.bit_rate:
        yield Fact("bit rate in all", f"{container.bit_rate / 1000:.0f} kb/s")
    for stream in list(container.streams)[:8]:
        yield Fact(f"stream {stream.index}", _stream(stream))
    yield from _notes(video)
    yield from _tags("container", dict(container.metadata))
    for stream in list(container.streams)[:8]:
        yield from _tags(f"stream {stream.index}", dict(stream.metadata))
    if picture := video.container.format.name.endswith("_pipe"):
        yield from _picture_tags(path)
    places = [container.metadata, *(stream.metadata for stream in container.streams)]
    if not picture and not any(_CAMERA.search(name) for place in places for name in place):
        yield Fact("camera", "none is named", "phones and cameras often name themselves; sites and programs drop it")


def _layout_facts(layout: Mp4Layout) -> Iterator[Fact]:
    if layout.brands:
        yield Fact("brands", ", ".join(layout.brands))
    yield Fact("order of its parts", " ".join(layout.boxes[:24]), _order(layout.boxes))
    for edits in layout.edits.values():
        shown = [_edit(*edit, layout.movie_scale) for edit in edits[:_MOST_SHOWN_EDITS]]
        yield Fact("edit list", "; ".join(shown) + ("; …" if len(edits) > len(shown) else ""))


def _order(boxes: tuple[str, ...]) -> str:
    if "moof" in boxes:
        return "in fragments, as for streaming"
    if "moov" not in boxes or "mdat" not in boxes:
        return ""
    if boxes.index("moov") < boxes.index("mdat"):
        return "index (moov) before the pictures: arranged for streaming, which takes a second pass"
    return "index (moov) after the pictures: as cameras and plain conversions write it"


def _edit(length: int, start: int, rate: float, scale: int | None) -> str:
    shown = f"{length / scale:.3f} s" if scale else f"{length} units"
    speed = "" if rate == 1 else f" at rate {rate:g}"
    return f"{shown} of nothing" if start < 0 else f"{shown} from {start} (units of the stream){speed}"


def _stream(stream: Stream) -> str:
    """Summarize a stream by its header, which is what reports are compared by."""
    context = getattr(stream, "codec_context", None)
    if context is None:
        return f"{stream.type}, of an unknown kind"
    parts = [stream.type, context.name]
    if stream.profile:
        parts.append(str(stream.profile))
    if stream.type == "video":
        parts += [f"{context.width}×{context.height} stored", str(context.pix_fmt or "")]
    if stream.type == "audio":
        parts.append(f"{context.sample_rate} Hz")
    if context.bit_rate:
        parts.append(f"{context.bit_rate / 1000:.0f} kb/s")
    if stream.type in ("video", "audio") and str(context.codec_tag).isprintable():
        parts.append(f"tag {context.codec_tag}")
    return ", ".join(part for part in parts if part)


def _notes(video: OpenVideo) -> Iterator[Fact]:
    """Yield encoder notes inside the video stream, which survive remuxing."""
    pieces = [video.stream.codec_context.extradata or b""]
    with damage_ignored():  # the scan reports it; the packets read so far are used
        packets = islice(video.container.demux(video.stream), _PACKETS)
        pieces.extend(bytes(packet)[:_PACKET_BYTES] for packet in packets if packet.size)
    content = b"\n".join(pieces)
    for pattern, why in _NOTES:
        if found := pattern.search(content):
            yield Fact("in the stream", _shortened(found.group().decode("ascii")), why)


def _picture_tags(path: str | PathLike[str]) -> Iterator[Fact]:
    """Yield the Exif tags of a picture that name its camera or program (CIPA DC-008)."""
    try:
        with Image.open(path) as picture:
            exif = picture.getexif()
            found = {name: exif.get(number) for name, number in _EXIF.items()}
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - Pillow's parsers raise many types, and these tags are optional
        return
    for name, value in found.items():
        if text := str(value or "").strip("\0 "):
            yield Fact(f"EXIF: {name}", _shortened(text))


def _tags(place: str, metadata: dict[str, str]) -> Iterator[Fact]:
    for name, value in list(metadata.items())[:_MOST_TAGS]:
        if name.lower() in _TOLD or (name, value) == ("language", "und"):
            continue
        why = ""
        if name.lower() in _WRITERS:
            why = next((words for pattern, words in _MAKERS if pattern.search(value)), "")
        elif name.lower() == "creation_time":
            why = "set by the program that wrote the file last, if its clock was right"
        yield Fact(f"{place}: {_shortened(name)}", _shortened(value), why)


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"


#: Disables network access: no remote manifests and no certificate revocation checks. The library has no list of trusted
#: signers, so the state "trusted" requires one in the user's settings.
_SETTINGS = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}

_STATES = {
    "Trusted": CredentialsState.TRUSTED,
    "Valid": CredentialsState.VALID,
    "Invalid": CredentialsState.INVALID,
}
#: An untrusted signer is reported by the state, not as a problem.
_UNTRUSTED = "signingCredential.untrusted"


def read_credentials(path: str | PathLike[str], on_progress: Callable[[], None] = lambda: None) -> Credentials:
    """Read and validate the Content Credentials of a file, without network access."""
    if find_spec("c2pa") is None:
        return Credentials(CredentialsState.NOT_LOOKED)
    c2pa = importlib.import_module("c2pa")
    try:
        with _Watched(path, on_progress) as file, c2pa.Context.from_dict(_SETTINGS) as context:
            reader = c2pa.Reader.try_create("", file, context=context)
            if reader is None:
                return Credentials(CredentialsState.NONE)
            with reader:
                return _told(json.loads(reader.json()))
    except c2pa.C2paError.NotSupported:
        return Credentials(CredentialsState.UNSUPPORTED)
    except c2pa.C2paError.RemoteManifest:
        reason = "they are kept elsewhere, and nothing is fetched"
        return Credentials(CredentialsState.UNREADABLE, problems=(reason,))
    except (c2pa.C2paError, ValueError) as error:
        return Credentials(CredentialsState.UNREADABLE, problems=(_shortened(str(error)),))


class _Watched(FileIO):
    """File that calls a function on every read, because reading a long video takes a while."""

    def __init__(self, path: str | PathLike[str], on_read: Callable[[], None]) -> None:
        super().__init__(path, "rb")
        self._on_read = on_read

    def read(self, size: int | None = -1, /) -> bytes:
        self._on_read()
        return super().read(-1 if size is None else size)

    def readinto(self, buffer: Any, /) -> int:
        self._on_read()
        return super().readinto(buffer)


def _told(store: Mapping[str, Any]) -> Credentials:
    """Convert the library's result for the active manifest."""
    state = _STATES.get(str(store.get("validation_state")), CredentialsState.UNREADABLE)
    active = store.get("manifests", {}).get(store.get("active_manifest"), {})
    failures = store.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
    problems = [
        _shortened(f"{failure.get('code')}: {failure.get('explanation') or 'no explanation'}")
        for failure in failures
        if failure.get("code") != _UNTRUSTED
    ]
    return Credentials(state, tuple(_manifest_facts(active)), tuple(problems[:_MOST_PROBLEMS]))


def _manifest_facts(manifest: Mapping[str, Any]) -> Iterator[Fact]:
    signature = manifest.get("signature_info") or {}
    generators = manifest.get("claim_generator_info") or [{"name": manifest.get("claim_generator", "")}]
    values = {
        "made with": ", ".join(f"{each.get('name', '')} {each.get('version', '')}".strip() for each in generators),
        "title": manifest.get("title"),
        "signed by": signature.get("common_name"),
        "certificate of": signature.get("issuer"),
        "signed at": signature.get("time"),
        "made from": ", ".join(str(each.get("title", "an unnamed file")) for each in manifest.get("ingredients") or []),
    }
    for name, value in values.items():
        if value:
            yield Fact(name, _shortened(str(value)))
    assertions = [
        each for each in manifest.get("assertions") or [] if str(each.get("label")).startswith("c2pa.actions")
    ]
    actions = [action for each in assertions for action in (each.get("data") or {}).get("actions") or []]
    for action in actions[:_MOST_ACTIONS]:
        source = str(action.get("digitalSourceType") or "").rsplit("/", 1)[-1]
        why = f"source: {source}" if source else str(action.get("description") or "")
        yield Fact("action", _shortened(str(action.get("action"))), _shortened(why))
