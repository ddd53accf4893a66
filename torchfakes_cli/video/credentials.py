"""Content Credentials (C2PA) of a file, checked with the official library where it is installed."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from io import FileIO
from os import PathLike
from typing import Any

from torchfakes_cli.records import Credentials, CredentialsState, Fact

#: Nothing is fetched: neither manifests that lie elsewhere nor answers on revoked certificates. No list of trusted
#: signers comes with the library, so "trusted" is out of reach unless the user's settings name one.
_SETTINGS = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}

_STATES = {
    "Trusted": CredentialsState.TRUSTED,
    "Valid": CredentialsState.VALID,
    "Invalid": CredentialsState.INVALID,
}
#: Not being on a list of trusted signers is told by the state, not as a problem.
_UNTRUSTED = "signingCredential.untrusted"
_MOST_ACTIONS = 20
_MOST_PROBLEMS = 10
_MOST_CHARACTERS = 300


def read_credentials(path: str | PathLike[str], on_progress: Callable[[], None] | None = None) -> Credentials:
    """Looks for Content Credentials in a file and checks them, without a network.

    Args:
        path: of a file that can be read.
        on_progress: called whenever the library reads some of it.
    """
    if find_spec("c2pa") is None:
        return Credentials(CredentialsState.NOT_LOOKED)
    c2pa = importlib.import_module("c2pa")
    try:
        with _Watched(path, on_progress or (lambda: None)) as file, c2pa.Context.from_dict(_SETTINGS) as context:
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
        return Credentials(CredentialsState.UNREADABLE, problems=(_short(str(error)),))


class _Watched(FileIO):
    """A file that tells of every read: checking a long video takes a while."""

    def __init__(self, path: str | PathLike[str], on_read: Callable[[], None]) -> None:
        super().__init__(path, "rb")
        self._on_read = on_read

    def read(self, size: int | None = -1, /) -> bytes:
        self._on_read()
        return super().read(-1 if size is None else size)


def _told(store: Mapping[str, Any]) -> Credentials:
    """What the library says of the manifest that holds for the file as it is."""
    state = _STATES.get(str(store.get("validation_state")), CredentialsState.UNREADABLE)
    active = store.get("manifests", {}).get(store.get("active_manifest"), {})
    failures = store.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
    problems = [
        _short(f"{failure.get('code')}: {failure.get('explanation') or 'no explanation'}")
        for failure in failures
        if failure.get("code") != _UNTRUSTED
    ]
    return Credentials(state, tuple(_facts(active)), tuple(problems[:_MOST_PROBLEMS]))


def _facts(manifest: Mapping[str, Any]) -> Iterator[Fact]:
    signature = manifest.get("signature_info") or {}
    generators = manifest.get("claim_generator_info") or [{"name": manifest.get("claim_generator", "")}]
    made_by = ", ".join(f"{each.get('name', '')} {each.get('version', '')}".strip() for each in generators)
    values = {
        "made with": made_by,
        "title": manifest.get("title"),
        "signed by": signature.get("common_name"),
        "certificate of": signature.get("issuer"),
        "signed at": signature.get("time"),
        "made from": ", ".join(str(each.get("title", "an unnamed file")) for each in manifest.get("ingredients") or []),
    }
    for name, value in values.items():
        if value:
            yield Fact(name, _short(str(value)))
    actions = list(_actions(manifest))
    for what, why in actions[:_MOST_ACTIONS]:
        yield Fact("action", _short(what), _short(why))


def _actions(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was done to the file, and what kind of source it is said to have."""
    for assertion in manifest.get("assertions") or []:
        if not str(assertion.get("label", "")).startswith("c2pa.actions"):
            continue
        for action in (assertion.get("data") or {}).get("actions") or []:
            source = str(action.get("digitalSourceType") or "").rsplit("/", 1)[-1]
            yield str(action.get("action")), f"source: {source}" if source else str(action.get("description") or "")


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"
