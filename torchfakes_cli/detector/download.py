"""Download weights over HTTPS and check their SHA-256.

Files on Hugging Face are downloaded by huggingface_hub, which goes on after a lost connection and knows mirrors and
access tokens, other addresses by pooch. Both take proxies from the environment (``HTTPS_PROXY``, ``NO_PROXY``). If no
SHA-256 is known in advance, that of the first usable file is recorded beside it and checked from then on, so that a
later change is detected. This module doesn't import torch.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

import platformdirs

from torchfakes_cli.detector.registry import (
    PUBLISHED,
    checksum_file,
    forget,
    path_of,
    record_checksum,
    recorded_checksum,
)
from torchfakes_cli.errors import CheckpointError, DownloadError, OutputError, TorchfakesError, UsageError
from torchfakes_cli.files import sha256_of
from torchfakes_cli.version import __version__

if TYPE_CHECKING:
    from torch import nn

    from torchfakes_cli.detector.import_weights import Imported

#: Suffixes of files of weights, in order of preference.
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
#: facenet-pytorch's release of InceptionResnetV1, trained to recognize the people of VGGFace2. Its authors publish no
#: checksum; independent projects pin this one for the file.
VGGFACE2_URL = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt"
VGGFACE2_SHA256 = "281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b"
#: Environment variable with the address of a mirror of that file, for example in a closed network.
VGGFACE2_VARIABLE = "TORCHFAKES_VGGFACE2_URL"

#: Further attempts after a download fails for a reason that may pass.
RETRIES = 2
TIMEOUT_S = 30.0
#: Largest download in bytes, far above any file of weights, even with a training's state.
MAX_BYTES = 1 << 30

_REPOSITORY = re.compile(r"hf:(?:(space|dataset)s/)?(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w.-]*))?(?:/(.+))?")

#: Called with (bytes received, total bytes if known).
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """Address of a file of weights.

    Attributes:
        url: address of the file.
        hub: arguments of ``hf_hub_download`` for a file on Hugging Face; empty for other files.
    """

    url: str
    hub: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Path of the downloaded file in its folder: that in the repository, or the last part of the URL."""
        if self.hub:
            return self.hub["filename"]
        last = unquote(urlsplit(self.url).path).rstrip("/").rsplit("/", 1)[-1]
        return re.sub(r"[^A-Za-z0-9._-]", "_", last).lstrip(".")[:128] or "download"


def cache_folder() -> Path:
    """Return the folder of downloaded files, in the platform's user cache."""
    return Path(platformdirs.user_cache_dir("torchfakes", appauthor=False))


def find_remote(source: str) -> RemoteFile:
    """Return the address of a source.

    Args:
        source: URL, or ``hf:OWNER/NAME[@REVISION][/FILE]``, with ``spaces/`` or ``datasets/`` before the owner of a
            space or data set.

    Raises:
        UsageError: the source is malformed, or isn't read over HTTPS.
        DownloadError: a repository's list of files can't be read, or doesn't have a single file of weights.
    """
    if urlsplit(source).scheme in ("http", "https"):
        return RemoteFile(source)
    match = _REPOSITORY.fullmatch(source)
    if not match or ".." in (match[4] or "").split("/"):
        advice = f"Known are {', '.join(PUBLISHED)}; else give https://… or hf:OWNER/NAME[/FILE]."
        raise UsageError(f"{source!r} is no detector to fetch", advice=advice)
    kind, repository, revision, name = match.groups()
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    check_address(endpoint)
    hub = _hub()
    where = {"repo_id": repository, "repo_type": kind or "model", "revision": revision or "main"}
    if name is None:
        try:
            names = hub.HfApi(endpoint).list_repo_files(**where)
        except Exception as error:
            raise DownloadError(f"{source} can't be read ({_reason(error)})", advice="Check the name.") from error
        name = _only_weights(source, names)
    url = hub.hf_hub_url(filename=name, endpoint=endpoint, **where)
    return RemoteFile(url, {"filename": name, "endpoint": endpoint, **where})


def _hub() -> Any:
    """Import huggingface_hub, without its telemetry: it sends nothing but the requests for the file."""
    import huggingface_hub
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True
    return huggingface_hub


def _only_weights(source: str, names: list[str]) -> str:
    """Return the name of the only file of weights in a repository."""
    for suffix in WEIGHT_SUFFIXES:
        found = [name for name in names if name.endswith(suffix)]
        if len(found) == 1:
            return found[0]
        if found:
            shown = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
            raise DownloadError(f"{source} holds {len(found)} files of weights", advice=f"Name one of {shown}.")
    raise DownloadError(f"{source} holds no file of weights", advice="Name its file: hf:OWNER/NAME/FILE.")


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


def fetch(
    file: RemoteFile, folder: Path, *, sha256: str = "", otherwise: str = "", progress: Progress | None = None
) -> Path:
    """Download a file unless it exists already, and check its checksum.

    Args:
        file: file to download; HTTPS is required except for addresses of this machine.
        folder: folder of the downloaded file, which keeps its name.
        sha256: expected checksum; empty for the one recorded by ``record_checksum``, if any.
        otherwise: alternative for the user if the download fails, as the end of a sentence.
        progress: called with (bytes received, total bytes if known).

    Returns:
        Path of the checked file.

    Raises:
        UsageError: the URL isn't an HTTPS address.
        DownloadError: the download fails, or the checksum is wrong; the file is then deleted.
    """
    check_address(file.url)
    path = folder / file.name
    if not path.is_file():
        try:
            (_from_hub if file.hub else _from_url)(file, folder, _progress_bar(progress))
        except TorchfakesError:
            raise
        except Exception as error:  # the two libraries raise errors of several others
            ways = f", or {otherwise}" if otherwise else ""
            raise DownloadError(
                f"{file.url} can't be fetched ({_reason(error)})",
                advice=f"Connect to the network (a proxy is taken from HTTPS_PROXY), or put the file at {path}{ways}.",
            ) from error
    recorded = recorded_checksum(path)
    expected = sha256.lower() or recorded
    if expected is not None and (found := sha256_of(path)) != expected:
        path.unlink()
        cause = f"has the SHA-256 {found[:16]}…, but {expected[:16]}… "
        cause += "was asked for" if sha256 else "was recorded at its first use"
        advice = "It was deleted; try again to download it"
        advice += "." if sha256 else f", and delete {checksum_file(path).name} too if its makers have changed it."
        raise DownloadError(cause, path=path, advice=advice)
    return path


def _progress_bar(progress: Progress | None) -> Any:
    """Make a class of progress bars for pooch and huggingface_hub that show nothing and pass the progress on."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0
        most = 0

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "file": StringIO()})

        def update(self, count: float | None = 1) -> None:
            super().update(count)
            if max(self.n, self.total or 0) > MAX_BYTES:
                raise DownloadError(f"more than {MAX_BYTES >> 20} MiB is too much for a detector's weights")
            # Several bars may belong to one download, and pooch counts whole chunks.
            Bar.most = min(max(Bar.most, int(self.n)), int(self.total or self.n))
            if progress:
                progress(Bar.most, int(self.total) if self.total else None)

    return Bar


def _from_hub(file: RemoteFile, folder: Path, bar: Any) -> None:
    """Download a file from Hugging Face; after a lost connection, huggingface_hub goes on where it was."""
    hub = _hub()
    # Asked without retries first: without a network this fails at once.
    metadata = hub.get_hf_file_metadata(file.url, endpoint=file.hub["endpoint"])
    check_address(metadata.location)
    if (metadata.size or 0) > MAX_BYTES:
        raise DownloadError(f"{file.url} has {metadata.size >> 20} MiB, which is too much for a detector's weights")
    hub.hf_hub_download(local_dir=folder, tqdm_class=bar, **file.hub)


def _from_url(file: RemoteFile, folder: Path, bar: Any) -> None:
    """Download a file from any other address."""
    import pooch
    import requests

    def check(response: requests.Response, **_: object) -> None:
        """Check each response, redirects included, before its content is read."""
        responses.callback(response.close)
        if response.is_redirect:
            check_address(urljoin(response.url, response.headers["Location"]))
        if response.status_code >= 400:
            error = requests.HTTPError(response=response)
            if response.status_code >= 500 or response.status_code in (408, 429):  # timeout, too many requests
                raise error  # pooch tries again
            raise DownloadError(f"{file.url} can't be fetched ({_reason(error)})", advice="Check the address.")

    pooch.get_logger().setLevel("WARNING")
    # A compressed response would have another length than the file.
    headers = {"User-Agent": f"torchfakes/{__version__}", "Accept-Encoding": "identity"}
    downloader = pooch.HTTPDownloader(
        bar(total=1), 1 << 18, timeout=TIMEOUT_S, headers=headers, hooks={"response": check}
    )
    files = pooch.create(folder, "", registry={file.name: None}, urls={file.name: file.url}, retry_if_failed=RETRIES)
    with ExitStack() as responses:
        files.fetch(file.name, downloader=downloader)


def _reason(error: Exception) -> str:
    response: Any = getattr(error, "response", None)
    if response is not None:
        words = getattr(response, "reason_phrase", "") or getattr(response, "reason", "")
        return f"the server answered {response.status_code} {words}".rstrip()
    # Errors of requests wrap each other; the last part says what happened.
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rsplit(": ", 1)[-1].strip("'\")")


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
) -> Imported:
    """Download weights and import them; existing files aren't downloaded again.

    Args:
        source: name in ``registry.PUBLISHED``, or a source as ``find_remote`` takes it.
        name: name of the detector; empty for the published name or the name of the file.
        sha256: expected checksum; empty for the one published, or recorded at the first download.
        preset: name of the preprocessing, as ``import_weights`` takes it.
        changes: changes to the preset, as ``import_weights`` takes them.
        licence: license of the weights.
        force: discard the recorded checksum, download again, and replace a detector of this name.
        progress: called with (bytes received, total bytes if known).

    Raises:
        UsageError: the source or the checksum is malformed.
        DownloadError: the download fails, or the checksum is wrong.
        CheckpointError: the file has no suitable weights.
        OutputError: another detector has this name.
    """
    from torchfakes_cli.detector.checkpoint import load_header
    from torchfakes_cli.detector.import_weights import Imported, import_weights

    if sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise UsageError(f"{sha256!r} is no SHA-256", advice="It has 64 hexadecimal digits.")
    published = PUBLISHED.get(source)
    file = find_remote(published.source if published else source)
    if published:
        preset, licence, sha256 = preset or published.preset, licence or published.licence, sha256 or published.sha256
    target = path_of(name or (source if published else Path(file.name).stem.lstrip("-_") or "download"))
    if target.is_file() and not force:
        header = load_header(target)
        made_from = header.training.get("source")
        if isinstance(made_from, dict) and made_from.get("url") == file.url:
            return Imported(target.stem, target, header, ("it is there already; --force fetches it again",), ())
        raise OutputError("there is a detector of this name", path=target, advice="Choose another --name, or --force.")
    # Files of different addresses may have the same name.
    folder = cache_folder() / "models" / hashlib.sha256(file.url.encode()).hexdigest()[:16]
    if force:
        forget(folder / file.name)
    otherwise = "run `torchfakes models import` on a copy of it"
    path = fetch(file, folder, sha256=sha256, otherwise=otherwise, progress=progress)
    known = bool(sha256) or recorded_checksum(path) is not None
    try:
        made = import_weights(
            path, target.stem, preset=preset, changes=changes, licence=licence, url=file.url, force=force
        )
    except CheckpointError:
        if not known:
            forget(path)  # it may be a login page; the next attempt downloads it again
        raise
    record_checksum(path)
    found = sha256_of(path)
    note = (
        f"its SHA-256 {found} is the one that was expected"
        if known
        else f"no checksum of it was known: its SHA-256 {found} is recorded, and expected from now on"
    )
    return replace(made, notes=(note, *made.notes))


def load_vggface2(network: nn.Module) -> None:
    """Load the VGGFace2 weights into a network, except for the last layer (the logit), which stays random.

    Raises:
        DownloadError: the download fails, or the checksum is wrong.
        CheckpointError: the file holds no weights.
    """
    from torchfakes_cli.detector.import_weights import read_tensors
    from torchfakes_cli.detector.network import portable_state

    file = RemoteFile(os.environ.get(VGGFACE2_VARIABLE, VGGFACE2_URL))
    otherwise = "train with --weights torchfakes (the detector that ships) or --weights scratch"
    state, _ = read_tensors(fetch(file, cache_folder(), sha256=VGGFACE2_SHA256, otherwise=otherwise))
    own = [name for name in portable_state(network) if not name.startswith("logits.")]
    network.load_state_dict({name: state[name] for name in own}, strict=False)
