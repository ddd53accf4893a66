"""Files of weights from the network: whole, checked, and continued where a download broke off.

Proxies are taken from the environment (``HTTPS_PROXY``, ``HTTP_PROXY``, ``NO_PROXY``). The SHA-256 of the first file
that proved to be right is written beside it and checked ever after, so that one that changes on its way or on the disk
is noticed. Nothing here needs torch.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import secrets
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import platformdirs

from torchfakes_cli import __version__
from torchfakes_cli.errors import DownloadError, UsageError

ATTEMPTS = 3
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0
TIMEOUT_S = 30.0
CHUNK = 1 << 18
#: A try that brought less than this brought nothing.
PROGRESS_BYTES = 1 << 16
#: Far above any file of weights of ours, with a training's state beside it.
MAX_BYTES = 1 << 30
#: Statuses that may pass: timeouts, too many requests, and a range that the server no longer has.
PASSING = (408, 416, 429)

#: Called with (bytes there, bytes wanted if known).
Progress = Callable[[int, int | None], None]


def cache_folder() -> Path:
    """Where fetched files are kept: the platform's user cache."""
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
    """Download a file unless it is there already, and check it.

    Args:
        url: where from, http or https.
        folder: where to; the file keeps its name.
        attempts: tries in a row that bring nothing before it gives up; the wait between them doubles.
        first_wait_s: seconds before the second try.
        sha256: that the file must have; empty for the one that ``record_checksum`` left, if any.
        otherwise: what else a user could do where it can't be had, as the end of a sentence.
        progress: told how far it is.

    Returns:
        Path of the checked file.

    Raises:
        UsageError: the URL is of another kind.
        DownloadError: it can't be had, or its checksum is wrong; such a file is deleted.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise UsageError(f"{url} is no address to fetch from", advice="Give one that begins with https://.")
    path = folder / file_name(url)
    if not path.is_file():
        _download_with_retries(url, path, attempts, first_wait_s, otherwise, progress or (lambda done, wanted: None))
    recorded = recorded_checksum(path)
    expected = sha256.lower() or recorded
    if expected is not None and (found := sha256_of(path)) != expected:
        path.unlink()
        cause = f"has the SHA-256 {found[:16]}…, but {expected[:16]}… "
        cause += "was asked for" if sha256 else "was recorded at its first use"
        advice = "It was deleted; try again to fetch it anew"
        advice += "." if sha256 else f", and delete {_record_of(path).name} too if its makers have changed it."
        raise DownloadError(cause, path=path, advice=advice)
    return path


def file_name(url: str) -> str:
    """The last part of a URL's path, without what a file's name shouldn't have."""
    last = unquote(urlsplit(url).path).rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9._-]", "_", last).lstrip(".")[:128] or "download"


def read_json(url: str) -> object:
    """The JSON document at a URL.

    Raises:
        DownloadError: it can't be had, or it is something else.
    """
    try:
        with _open(_request(url)) as response:
            return json.loads(response.read(1 << 24))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DownloadError(f"{url} can't be read ({_reason(error)})", advice="Check the name.") from error


def record_checksum(path: Path) -> None:
    """Write a file's SHA-256 beside it, once it has proved to be what it should be; one that is there stays.

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
    """Delete a file and its recorded checksum, where they are."""
    for old in (path, _record_of(path)):
        old.unlink(missing_ok=True)


def recorded_checksum(path: Path) -> str | None:
    """The SHA-256 that was written beside a file; None where there is none."""
    try:
        words = _record_of(path).read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return None
    return words[0] if words else None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _request(url: str) -> urllib.request.Request:
    # A compressed answer would have another length than the file.
    headers = {"User-Agent": f"torchfakes/{__version__}", "Accept-Encoding": "identity"}
    return urllib.request.Request(url, headers=headers)


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    # An opener of its own, for the usual one remembers the proxies that were set when it was first used.
    response: http.client.HTTPResponse = urllib.request.build_opener().open(request, timeout=TIMEOUT_S)
    return response


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    return str(getattr(error, "reason", error) or type(error).__name__)


class _Part:
    """What has come of a file: kept from try to try, and from run to run.

    It is a folder with ``data`` and ``version`` (which says what it is the beginning of). While it is being filled it
    has a name of its own, so that two downloads at once don't mix.
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
        """What a process that was killed has left: nobody has written to it for longer than a server may be silent."""
        latest = time.time() - 2 * TIMEOUT_S
        found = self._own.parent.glob(self._kept.name.removesuffix("part") + "*.part")
        return [old for old in found if (old / "data").is_file() and (old / "data").stat().st_mtime < latest]

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self.data.stat().st_size if self.data.is_file() else 0

    def version(self) -> dict[str, object]:
        """What ``begin`` was told."""
        try:
            known = json.loads((self._own / "version").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def begin(self, version: dict[str, object]) -> None:
        """Starts from nothing."""
        self.data.unlink(missing_ok=True)
        (self._own / "version").write_text(json.dumps(version), encoding="utf-8")

    def give_back(self) -> None:
        """Keeps what has come for the next time, if it is anything."""
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
                # The server answered: only what may pass is worth another try.
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
    """One try: from where the last one broke off, if the server still has the same version of the file."""
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
            # A weak tag can't be asked for with a range.
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
