"""Detectors from the network: by a name that is known, a URL, or a repository on Hugging Face."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from torchfakes_cli.detector.checkpoint import load_header
from torchfakes_cli.detector.fetch import (
    FIRST_WAIT_S,
    Progress,
    cache_folder,
    fetch,
    file_name,
    forget,
    read_json,
    record_checksum,
    recorded_checksum,
    sha256_of,
)
from torchfakes_cli.detector.imports import Imported, import_weights
from torchfakes_cli.detector.registry import PUBLISHED, place_of
from torchfakes_cli.errors import CheckpointError, DownloadError, OutputError, UsageError

#: Environment variable, Hugging Face's own, that names a mirror.
ENDPOINT_VARIABLE = "HF_ENDPOINT"
ENDPOINT = "https://huggingface.co"
#: What may hold weights, the best first.
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")

_REPOSITORY = re.compile(r"hf:(spaces/|datasets/)?(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w.-]*))?(?:/(.+))?")


def fetch_detector(
    source: str,
    name: str = "",
    *,
    sha256: str = "",
    preset: str | None = None,
    changes: Mapping[str, Any] | None = None,
    licence: str = "",
    force: bool = False,
    progress: Progress | None = None,
    first_wait_s: float = FIRST_WAIT_S,
) -> Imported:
    """Download weights and import them; what is there already isn't fetched again.

    Args:
        source: a name of ``registry.PUBLISHED``, a URL, or ``hf:OWNER/NAME[@REVISION][/FILE]``, with ``spaces/`` or
            ``datasets/`` before the owner where it is one.
        name: for the detector; empty for the known name, or else the file's.
        sha256: that the file must have; empty for what is known of it: from its publication, or its first download.
        preset: see ``import_weights``.
        changes: see ``import_weights``.
        licence: of the weights.
        force: forget the recorded checksum, fetch again, and replace a detector of this name.
        progress: told how many bytes have come.
        first_wait_s: seconds before the second try.

    Raises:
        UsageError: the source is no source, or the checksum no checksum.
        DownloadError: it can't be had, or its checksum is wrong.
        CheckpointError: it holds no such weights.
        OutputError: another detector has this name.
    """
    if sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise UsageError(f"{sha256!r} is no SHA-256", advice="It has 64 hexadecimal digits.")
    published = PUBLISHED.get(source)
    url = address_of(published.source if published else source)
    place = place_of(name or (source if published else _stem(url)))
    if place.is_file() and not force:
        if (there := _fetched_from(place, url)) is not None:
            return there
        raise OutputError("there is a detector of this name", path=place, advice="Choose another --name, or --force.")
    if published:
        preset, licence, sha256 = preset or published.preset, licence or published.licence, sha256 or published.sha256
    # Files of many addresses may have one name.
    folder = cache_folder() / "models" / hashlib.sha256(url.encode()).hexdigest()[:16]
    if force:
        forget(folder / file_name(url))
    otherwise = "run `torchfakes models import` on a copy of it"
    path = fetch(url, folder, first_wait_s=first_wait_s, sha256=sha256, otherwise=otherwise, progress=progress)
    known = bool(sha256) or recorded_checksum(path) is not None
    try:
        made = import_weights(path, place.stem, preset=preset, changes=changes, licence=licence, url=url, force=force)
    except CheckpointError:
        if not known:
            forget(path)  # a page that asks to log in, say: the next try is not to find it
        raise
    record_checksum(path)
    found = sha256_of(path)
    told = (
        f"its SHA-256 {found} is the one that was expected"
        if known
        else f"no checksum of it was known: its SHA-256 {found} is recorded, and expected from now on"
    )
    return replace(made, notes=(told, *made.notes))


def address_of(source: str) -> str:
    """The URL that a source stands for.

    Raises:
        UsageError: it is none.
        DownloadError: a repository's list of files can't be had, or it doesn't tell which of them is meant.
    """
    if urlsplit(source).scheme in ("http", "https"):
        return source
    match = _REPOSITORY.fullmatch(source)
    if not match:
        advice = f"Known are {', '.join(PUBLISHED)}; else give https://… or hf:OWNER/NAME[/FILE]."
        raise UsageError(f"{source!r} is no detector to fetch", advice=advice)
    kind, repository, revision, file = match.groups()
    endpoint = os.environ.get(ENDPOINT_VARIABLE, ENDPOINT).rstrip("/")
    if file is None:
        listed = f"{endpoint}/api/{kind or 'models/'}{repository}"
        file = _file_of(source, read_json(f"{listed}/revision/{revision}" if revision else listed))
    return f"{endpoint}/{kind or ''}{repository}/resolve/{revision or 'main'}/{quote(file)}"


def _file_of(source: str, listing: object) -> str:
    """The one file of weights in a repository."""
    siblings = listing.get("siblings") if isinstance(listing, dict) else None
    names = [
        str(entry["rfilename"])
        for entry in (siblings if isinstance(siblings, list) else [])
        if isinstance(entry, dict) and "rfilename" in entry
    ]
    for suffix in WEIGHT_SUFFIXES:
        found = [name for name in names if name.endswith(suffix)]
        if len(found) == 1:
            return found[0]
        if found:
            shown = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
            raise DownloadError(f"{source} holds {len(found)} files of weights", advice=f"Name one of {shown}.")
    raise DownloadError(f"{source} holds no file of weights", advice="Name its file: hf:OWNER/NAME/FILE.")


def _stem(url: str) -> str:
    return Path(file_name(url)).stem.lstrip("-_") or "download"


def _fetched_from(place: Path, url: str) -> Imported | None:
    """What is there already, if it came from this address."""
    header = load_header(place)
    source = header.training.get("source")
    if not isinstance(source, dict) or source.get("url") != url:
        return None
    return Imported(place.stem, place, header, ("it is there already; --force fetches it again",), ())
