"""A server process of ``torchfakes serve`` on loopback, and a client for it that says no more than HTTP needs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from threading import Thread
from typing import Any

# A test run in the background passes on that it ignores interrupts; a user's terminal doesn't.
_HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
_COMMAND = [sys.executable, "-c", _HEED + "from torchfakes_cli.cli import main; main()", "serve", "--port", "0"]
TOKEN = "a-token-for-the-tests-alone"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> tuple[int, str]:
        """Status and detail of a problem document, which must be one."""
        assert self.headers["Content-Type"] == "application/problem+json"
        assert self.json["status"] == self.status
        assert self.json.keys() == {"type", "title", "status", "detail"}
        return self.status, self.json["detail"]


class Server:
    """A process that serves; ``log`` holds the lines of its stderr, ``folder`` its temporary files."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.log: list[str] = []
        self.token: str | None = environment.get("TORCHFAKES_TOKEN")
        self.process = subprocess.Popen(
            [*_COMMAND, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**_without_token(), "TMPDIR": str(folder), **environment},
        )
        self._reader = Thread(target=self._read)
        self._reader.start()
        self.port = int(re.search(r":(\d+)$", self.logged("serving on"))[1])  # type: ignore[index]

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            self.log.extend(line.rstrip("\n") for line in lines)

    def logged(self, part: str) -> str:
        """Waits for the line of the log that holds this."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            for line in self.log:
                if part in line:
                    return line
            assert not ended, self.log
            time.sleep(0.02)
        raise AssertionError(f"no {part!r} in {self.log}")

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request; underscores in the names of headers stand for hyphens."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token and "authorization" not in headers:
            sent["Authorization"] = f"Bearer {self.token}"
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def send(self, clip: Path, **headers: str) -> Answer:
        """Sends a clip as a form does."""
        body, kind = form(clip.name, clip.read_bytes())
        return self.ask("POST", "/v1/scans", body, content_type=kind, **headers)

    def when_ready(self) -> None:
        deadline = time.monotonic() + 60
        while self.ask("GET", "/readyz").status != 200:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    def ended(self, path: str) -> Any:
        """Waits for the result of a job, and gives its document."""
        deadline = time.monotonic() + 60
        while (answer := self.ask("GET", path)).json["status"] in ("queued", "running"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return answer.json

    @property
    def clips(self) -> list[str]:
        """Names of the clips that lie in its folder."""
        return [path.name for path in self.folder.rglob("*") if path.is_file() and path.name != "lock"]

    def stop(self, kind: signal.Signals = signal.SIGTERM) -> int:
        """Ends it by a signal, and gives its exit code once all of its log has been read."""
        self.process.send_signal(kind)
        code = self.process.wait(timeout=30)
        self._reader.join()
        return code


def _without_token() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "TORCHFAKES_TOKEN"}


def form(name: str, content: bytes, *, field: str = "file", boundary: str = "limit") -> tuple[bytes, str]:
    """A form with one file, and its content type."""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
    body = (
        f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + content + f"\r\n--{boundary}--\r\n".encode()
    )
    return body, f"multipart/form-data; boundary={boundary}"


@contextmanager
def serving(folder: Path, *arguments: str, ready: bool = True, **environment: str) -> Iterator[Server]:
    """A server while the block runs, which waits until it takes clips unless told otherwise."""
    server = Server(folder, arguments, environment)
    try:
        if ready:
            server.when_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()
        server._reader.join()
