"""Public weights that training can start from, fetched once into the user's cache.

The SHA-256 of the first file that proved to be right is written beside it and checked ever after, so that one that
changes on its way or on the disk is noticed. Nothing is unpickled but tensors.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import pickle
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import platformdirs
import torch
from torch import Tensor, nn

from torchfakes_cli.detector.network import portable_state
from torchfakes_cli.errors import CheckpointError, DownloadError

#: facenet-pytorch's release of InceptionResnetV1 trained to tell the people of VGGFace2 apart.
VGGFACE2_URL = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt"
#: Environment variable that names another place to fetch it from (a mirror inside a closed network).
VGGFACE2_VARIABLE = "TORCHFAKES_VGGFACE2_URL"
ATTEMPTS = 3
FIRST_WAIT_S = 1.0
TIMEOUT_S = 30.0
CHUNK = 1 << 20


def cache_folder() -> Path:
    """Where fetched weights are kept: the platform's user cache."""
    return Path(platformdirs.user_cache_dir("torchfakes", appauthor=False))


def load_vggface2(network: nn.Module) -> None:
    """Put the VGGFace2 weights into a network; its last layer, the logit, stays random.

    Raises:
        DownloadError: they can't be fetched or don't match the recorded checksum.
        CheckpointError: the file isn't what it should be.
    """
    path = fetch(os.environ.get(VGGFACE2_VARIABLE, VGGFACE2_URL), cache_folder(), first_wait_s=FIRST_WAIT_S)
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
    record_checksum(path)


def fetch(url: str, folder: Path, attempts: int = ATTEMPTS, first_wait_s: float = FIRST_WAIT_S) -> Path:
    """Download a file unless it is there already, and check it.

    Args:
        url: where from; proxies are taken from the environment.
        folder: where to; the file keeps its name. Where ``record_checksum`` left one, its checksum must be the same.
        attempts: tries before giving up; the wait between them doubles.
        first_wait_s: seconds before the second try.

    Returns:
        Path of the checked file.

    Raises:
        DownloadError: it can't be had, or its checksum isn't the recorded one.
    """
    path = folder / url.rsplit("/", 1)[-1]
    if not path.is_file():
        _download_with_retries(url, path, attempts, first_wait_s)
    recorded = recorded_checksum(path)
    if recorded is not None and (found := sha256_of(path)) != recorded:
        cause = f"has the SHA-256 {found[:16]}…, but {recorded[:16]}… was recorded at its first use"
        advice = f"Delete it to fetch it again, and {_record_of(path).name} too if the change is right."
        raise DownloadError(cause, path=path, advice=advice)
    return path


def record_checksum(path: Path) -> None:
    """Write a fetched file's SHA-256 beside it, once it has proved to be what it should be.

    Raises:
        DownloadError: the cache can't be written.
    """
    if recorded_checksum(path) is not None:
        return
    try:
        _record_of(path).write_text(f"{sha256_of(path)}  {path.name}\n", encoding="ascii")
    except OSError as error:
        raise DownloadError(f"its checksum can't be recorded ({error.strerror or error})", path=path) from error


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def recorded_checksum(path: Path) -> str | None:
    """The SHA-256 that was written beside a file; None where there is none."""
    try:
        words = _record_of(path).read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return None
    return words[0] if words else None


def _download_with_retries(url: str, path: Path, attempts: int, first_wait_s: float) -> None:
    for attempt in range(attempts):
        try:
            _download(url, path)
        except urllib.error.HTTPError as error:
            # The server answered: only what may pass is worth another try.
            reason = f"the server answered {error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 429):
                break
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", error) or type(error).__name__)
        except (OSError, ValueError) as error:
            raise DownloadError(f"can't be saved or fetched ({error})", path=path) from error
        else:
            return
        if attempt + 1 < attempts:
            time.sleep(first_wait_s * 2**attempt)
    raise DownloadError(
        f"the weights at {url} can't be fetched ({reason})",
        advice=f"Connect to the network, or put the file at {path}, or train with --from scratch.",
    )


def _download(url: str, path: Path) -> None:
    """Fetch into a file of its own beside the place, which then appears whole; two at once don't mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = None
    try:
        with (
            urllib.request.urlopen(url, timeout=TIMEOUT_S) as response,
            tempfile.NamedTemporaryFile(
                dir=path.parent, prefix=f"{path.name}.", suffix=".part", delete=False
            ) as handle,
        ):
            partial = Path(handle.name)
            expected = response.headers.get("Content-Length")
            while chunk := response.read(CHUNK):
                handle.write(chunk)
            if expected is not None and handle.tell() != int(expected):
                raise ConnectionError(f"{handle.tell()} of {expected} bytes came")
        partial.replace(path)
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
