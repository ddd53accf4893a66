"""A local server that gives bytes as a hub of models does: by ranges, with cuts, with failures, or as a proxy."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class WeightsServer:
    """Serves ``body`` under any name that ``files`` doesn't list.

    Attributes:
        body: what comes.
        files: bodies by path, before ``body``.
        failures: statuses of the next answers.
        moved_to: where every answer redirects to; empty for none.
        cut_after: bytes after which the next answers end, one each.
        cut: whether every answer ends in the middle.
        ranges: whether ranges are given.
        tag: of the version of the file; empty for none.
        asked: (path, its Range or "") of each GET request.
        connects: places that a proxy was asked to reach.
    """

    def __init__(self) -> None:
        self.body = b"weights" * 1000
        self.files: dict[str, bytes] = {}
        self.failures: list[int] = []
        self.moved_to = ""
        self.cut_after: list[int] = []
        self.cut = False
        self.ranges = True
        self.tag = '"one"'
        self.asked: list[tuple[str, str]] = []
        self.connects: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.answer(self)

            def do_HEAD(self) -> None:
                owner.describe(self)

            def do_CONNECT(self) -> None:
                owner.connects.append(self.path)
                self.send_error(502, "no way out")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        self.url = f"{self.address}/weights.pt"

    @property
    def requests(self) -> int:
        return len(self.asked)

    def describe(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer as Hugging Face does before a download."""
        if self.failures:
            handler.send_error(self.failures.pop(0))
            return
        handler.send_response(302 if self.moved_to else 200)
        if self.moved_to:
            handler.send_header("Location", self.moved_to)
        body = self.files.get(handler.path, self.body)
        handler.send_header("X-Repo-Commit", "0" * 40)
        handler.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range", "")
        self.asked.append((handler.path, wanted))
        if self.failures:
            handler.send_error(self.failures.pop(0))
            return
        if self.moved_to:
            handler.send_response(302)
            handler.send_header("Location", self.moved_to)
            handler.end_headers()
            return
        body = self.files.get(handler.path.partition("?")[0], self.body)
        same = handler.headers.get("If-Range") in (None, self.tag)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.ranges and same else 0  # type: ignore[index]
        if start >= len(body):
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if self.tag:
            handler.send_header("ETag", self.tag)
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        end = len(body) // 2 if self.cut else start + self.cut_after.pop(0) if self.cut_after else len(body)
        handler.wfile.write(body[start:end])


@contextmanager
def serving() -> Iterator[WeightsServer]:
    """A server while the block runs."""
    server = WeightsServer()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()
