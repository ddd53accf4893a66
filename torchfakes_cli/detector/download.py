"""Downloads of weights over HTTPS: checked by SHA-256, and resumed after interruptions.

Proxies are taken from the environment (``HTTPS_PROXY``, ``NO_PROXY``). If no SHA-256 is known in advance, that of the
first usable file is recorded beside it and checked from then on, so that a later change is detected. This module
doesn't import torch.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import json
import os
import pickle
import re
import secrets
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

import platformdirs

from torchfakes_cli.detector.registry import PUBLISHED, place_of
from torchfakes_cli.errors import CheckpointError, DownloadError, OutputError, UsageError
from torchfakes_cli.files import sha256_of
from torchfakes_cli.version import __version__

if TYPE_CHECKING:
    from torch import Tensor, nn

    from torchfakes_cli.detector.import_weights import Imported

#: Environment variable of Hugging Face with the address of a mirror.
ENDPOINT_VARIABLE = "HF_ENDPOINT"
ENDPOINT = "https://huggingface.co"
#: Suffixes of files of weights, in order of preference.
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
#: facenet-pytorch's release of InceptionResnetV1, trained to recognise the people of VGGFace2. Its authors publish no
#: checksum; independent projects pin this one for the file.
VGGFACE2_URL = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt"
VGGFACE2_SHA256 = "281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b"
#: Environment variable with the address of a mirror of that file, for example in a closed network.
VGGFACE2_VARIABLE = "TORCHFAKES_VGGFACE2_URL"

ATTEMPTS = 3
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0
TIMEOUT_S = 30.0
CHUNK = 1 << 18
#: Smallest number of bytes that counts as progress of an attempt.
PROGRESS_BYTES = 1 << 16
#: Largest download in bytes, far above any file of weights, even with a training's state.
MAX_BYTES = 1 << 30
#: HTTP statuses after which another attempt may succeed: timeout, unsatisfiable range, too many requests.
PASSING = (408, 416, 429)

_REPOSITORY = re.compile(r"hf:(spaces/|datasets/)?(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w.-]*))?(?:/(.+))?")

#: Called with (bytes received, total bytes if known).
Progress = Callable[[int, int | None], None]


def cache_folder() -> Path:
    """Return the folder of downloaded files, in the platform's user cache."""
    return Path(platformdirs.user_cache_dir("torchfakes", appauthor=False))


def fetch(
    url: str,
    folder: Path,
    attempts: int = ATTEMPTS,
    first_wait_s: float = FIRST_WAIT_S,
    *,
    sha256: str = "",
    otherwise: str = "",
    progress: Progress | None = None,
) -> Path:
    """Download a file unless it exists already, and check its checksum.

    Args:
        url: address of the file; HTTPS is required except for addresses of this machine.
        folder: folder of the downloaded file, which keeps its name.
        attempts: number of consecutive attempts without progress after which the download is given up; the wait between
            them doubles.
        first_wait_s: seconds before the second attempt.
        sha256: expected checksum; empty for the one recorded by ``record_checksum``, if any.
        otherwise: alternative for the user if the download fails, as the end of a sentence.
        progress: called with (bytes received, total bytes if known).

    Returns:
        Path of the checked file.

    Raises:
        UsageError: the URL isn't an HTTPS address.
        DownloadError: the download fails, or the checksum is wrong; the file is then deleted.
    """
    check_address(url)
    path = folder / file_name(url)
    if not path.is_file():
        _download_with_retries(url, path, attempts, first_wait_s, otherwise, progress or (lambda done, wanted: None))
    recorded = recorded_checksum(path)
    expected = sha256.lower() or recorded
    if expected is not None and (found := sha256_of(path)) != expected:
        path.unlink()
        cause = f"has the SHA-256 {found[:16]}…, but {expected[:16]}… "
        cause += "was asked for" if sha256 else "was recorded at its first use"
        advice = "It was deleted; try again to download it"
        advice += "." if sha256 else f", and delete {_record_of(path).name} too if its makers have changed it."
        raise DownloadError(cause, path=path, advice=advice)
    return path


def check_address(url: str) -> None:
    """Check that a URL can't be read or changed in transit.

    Raises:
        UsageError: the URL is neither HTTPS nor on this machine.
    """
    try:
        scheme, host = urlsplit(url).scheme, urlsplit(url).hostname or ""
    except ValueError:
        scheme = host = ""
    if scheme == "https" or (scheme == "http" and _is_this_machine(host)):
        return
    cause = "is plain HTTP, which anyone on the way can change" if scheme == "http" else "is no address to fetch from"
    raise UsageError(f"{url} {cause}", advice="Give an address that begins with https://.")


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def file_name(url: str) -> str:
    """Return the last part of a URL's path as a safe file name."""
    last = unquote(urlsplit(url).path).rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9._-]", "_", last).lstrip(".")[:128] or "download"


def read_json(url: str) -> object:
    """Download and parse a JSON document.

    Raises:
        DownloadError: the download fails, or the document isn't JSON.
    """
    try:
        with _open(_request(url)) as response:
            return json.loads(response.read(1 << 24))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DownloadError(f"{url} can't be read ({_reason(error)})", advice="Check the name.") from error


def record_checksum(path: Path) -> None:
    """Record the SHA-256 of a file beside it, once the file has proved usable; an existing record is kept.

    Raises:
        DownloadError: the folder can't be written.
    """
    if recorded_checksum(path) is not None:
        return
    try:
        _record_of(path).write_text(f"{sha256_of(path)}  {path.name}\n", encoding="ascii")
    except OSError as error:
        raise DownloadError(f"its checksum can't be recorded ({error.strerror or error})", path=path) from error


def forget(path: Path) -> None:
    """Delete a file and its recorded checksum, if they exist."""
    for old in (path, _record_of(path)):
        old.unlink(missing_ok=True)


def recorded_checksum(path: Path) -> str | None:
    """Return the SHA-256 recorded beside a file; None if there is none."""
    try:
        words = _record_of(path).read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return None
    return words[0] if words else None


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _request(url: str) -> urllib.request.Request:
    # A compressed response would have another length than the file.
    headers = {"User-Agent": f"torchfakes/{__version__}", "Accept-Encoding": "identity"}
    return urllib.request.Request(url, headers=headers)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirect handler that applies ``check_address`` to every target."""

    def redirect_request(self, req: urllib.request.Request, *rest: Any) -> urllib.request.Request | None:
        check_address(rest[-1])
        return super().redirect_request(req, *rest)


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    check_address(request.full_url)
    # A new opener, because the default one keeps the proxies of its first use.
    response: http.client.HTTPResponse = urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT_S)
    return response


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    return str(getattr(error, "reason", error) or type(error).__name__)


class _Part:
    """Partial download, which is kept between attempts and between runs.

    It is a folder with the files ``data`` and ``version``, which identifies the remote file. During the download the
    folder has a unique name, so that concurrent downloads don't mix.
    """

    def __init__(self, path: Path) -> None:
        self._kept = path.with_name(f"{path.name}.part")
        self._own = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        self._own.parent.mkdir(parents=True, exist_ok=True)
        self.data = self._own / "data"
        for left in (self._kept, *self._abandoned()):
            try:
                left.rename(self._own)
                return
            except OSError:
                continue
        self._own.mkdir()

    def _abandoned(self) -> list[Path]:
        """Find partial downloads of killed processes: those not written to for longer than a server's timeout."""
        latest = time.time() - 2 * TIMEOUT_S
        found = self._own.parent.glob(self._kept.name.removesuffix("part") + "*.part")
        return [old for old in found if (old / "data").is_file() and (old / "data").stat().st_mtime < latest]

    @property
    def size(self) -> int:
        """Number of bytes received."""
        return self.data.stat().st_size if self.data.is_file() else 0

    def version(self) -> dict[str, object]:
        """Return the version passed to ``begin``; empty if unknown."""
        try:
            known = json.loads((self._own / "version").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def begin(self, version: dict[str, object]) -> None:
        """Discard the data and start the download of a version."""
        self.data.unlink(missing_ok=True)
        (self._own / "version").write_text(json.dumps(version), encoding="utf-8")

    def give_back(self) -> None:
        """Keep the received data, if any, for the next run."""
        if not self.size or self._kept.exists():
            shutil.rmtree(self._own, ignore_errors=True)
        else:
            self._own.rename(self._kept)


def _download_with_retries(
    url: str, path: Path, attempts: int, first_wait_s: float, otherwise: str, progress: Progress
) -> None:
    try:
        part = _Part(path)
    except OSError as error:
        raise DownloadError(f"can't be saved ({error.strerror or error})", path=path) from error
    failures = 0
    try:
        while True:
            before = part.size
            try:
                _download(url, part, progress)
                part.data.replace(path)
                return
            except urllib.error.HTTPError as error:
                # The server answered; another attempt makes sense only for temporary errors.
                reason = _reason(error)
                if error.code < 500 and error.code not in PASSING:
                    break
                if error.code == 416:
                    part.begin({})
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                reason = _reason(error)
            except (OSError, ValueError) as error:
                raise DownloadError(f"can't be saved or fetched ({error})", path=path) from error
            failures = 1 if part.size - before >= PROGRESS_BYTES else failures + 1
            if failures >= attempts:
                break
            time.sleep(min(LONGEST_WAIT_S, first_wait_s * 2 ** (failures - 1)))
        kept = f"; {part.size} bytes are kept, and the next try goes on there" if part.size else ""
    finally:
        part.give_back()
    ways = f", or {otherwise}" if otherwise else ""
    raise DownloadError(
        f"{url} can't be fetched ({reason}){kept}",
        advice=f"Connect to the network (a proxy is taken from HTTPS_PROXY), or put the file at {path}{ways}.",
    )


def _download(url: str, part: _Part, progress: Progress) -> None:
    """Make one attempt; resume the partial download if the server still has the same version of the file."""
    request, have, known = _request(url), part.size, part.version()
    if have and known.get("url") == url:
        request.add_header("Range", f"bytes={have}-")
        if known.get("tag"):
            request.add_header("If-Range", str(known["tag"]))
    else:
        have = 0
    with _open(request) as response:
        if response.status == 206:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if not span or int(span[1]) != have or int(span[2]) != known.get("total"):
                part.begin({})
                raise ConnectionError("the file changed in the middle of it")
            total: int | None = int(span[2])
        else:
            have = 0
            length = response.headers.get("Content-Length")
            total = int(length) if length is not None else None
            # Range requests need a strong tag.
            tag = response.headers.get("ETag", "")
            tag = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
            part.begin({"url": url, "tag": tag, "total": total})
        if total is not None and total > MAX_BYTES:
            raise ValueError(f"{total / 2**20:.0f} MiB are too much for a detector")
        with part.data.open("ab") as handle:
            while chunk := response.read1(CHUNK):
                handle.write(chunk)
                have += len(chunk)
                progress(have, total)
                if have > MAX_BYTES:
                    part.begin({})
                    raise ValueError(f"more than {MAX_BYTES / 2**20:.0f} MiB are too much for a detector")
    if total is not None and have != total:
        raise ConnectionError(f"{have} of {total} bytes came")


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
    """Download weights and import them; existing files aren't downloaded again.

    Args:
        source: name in ``registry.PUBLISHED``, URL, or ``hf:OWNER/NAME[@REVISION][/FILE]``, with ``spaces/`` or
            ``datasets/`` before the owner of a space or data set.
        name: name of the detector; empty for the published name or the name of the file.
        sha256: expected checksum; empty for the one published, or recorded at the first download.
        preset: name of the preprocessing, as ``import_weights`` takes it.
        changes: changes to the preset, as ``import_weights`` takes them.
        licence: licence of the weights.
        force: discard the recorded checksum, download again, and replace a detector of this name.
        progress: called with (bytes received, total bytes if known).
        first_wait_s: seconds before the second attempt.

    Raises:
        UsageError: the source or the checksum is malformed.
        DownloadError: the download fails, or the checksum is wrong.
        CheckpointError: the file has no suitable weights.
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
    from torchfakes_cli.detector.import_weights import import_weights

    # Files of different addresses may have the same name.
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
            forget(path)  # it may be a login page; the next attempt downloads it again
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
    """Return the URL of a source.

    Raises:
        UsageError: the source is malformed.
        DownloadError: a repository's list of files can't be read, or doesn't have a single file of weights.
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
    """Return the name of the only file of weights in a repository."""
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
    """Return the existing detector if it was downloaded from this address."""
    from torchfakes_cli.detector.checkpoint import load_header
    from torchfakes_cli.detector.import_weights import Imported

    header = load_header(place)
    source = header.training.get("source")
    if not isinstance(source, dict) or source.get("url") != url:
        return None
    return Imported(place.stem, place, header, ("it is there already; --force fetches it again",), ())


def load_vggface2(network: nn.Module) -> None:
    """Load the VGGFace2 weights into a network, except for the last layer (the logit), which stays random.

    Only tensors are unpickled.

    Raises:
        DownloadError: the download fails, or the checksum is wrong.
        CheckpointError: the file doesn't have the expected weights.
    """
    import torch

    from torchfakes_cli.detector.network import portable_state

    url = os.environ.get(VGGFACE2_VARIABLE, VGGFACE2_URL)
    otherwise = "train with --weights torchfakes (the detector that ships) or --weights scratch"
    path = fetch(url, cache_folder(), first_wait_s=FIRST_WAIT_S, sha256=VGGFACE2_SHA256, otherwise=otherwise)
    advice = f"Delete it and try again: {path}"
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError("is no file of weights", path=path, advice=advice) from error
    if not isinstance(state, dict):
        raise CheckpointError("holds no table of weights", path=path, advice=advice)
    own = {name: tensor for name, tensor in portable_state(network).items() if not name.startswith("logits.")}
    differing = [name for name in own if name not in state or state[name].shape != own[name].shape]
    if differing:
        cause = f"lacks {len(differing)} of the network's tensors ({', '.join(differing[:3])})"
        raise CheckpointError(cause, path=path, advice=advice)
    network.load_state_dict({name: state[name] for name in own}, strict=False)
