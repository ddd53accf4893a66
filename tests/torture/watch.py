"""What a scan touches besides its file: an HTTP server that nobody should call, and files that nobody should open."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_IN_OPEN = 0x20
_IN_NONBLOCK = os.O_NONBLOCK if hasattr(os, "O_NONBLOCK") else 0
_EVENT = struct.Struct("iIII")

#: Only Linux tells which files of a folder are opened.
CAN_WATCH = sys.platform == "linux"


class OpenedFiles:
    """The files of some folders that anybody opens, from now on; a context manager.

    Args:
        folders: to watch, not the folders in them.
    """

    def __init__(self, *folders: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(_IN_NONBLOCK)
        assert self._descriptor >= 0, os.strerror(ctypes.get_errno())
        for folder in folders:
            watch = libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _IN_OPEN)
            assert watch >= 0, os.strerror(ctypes.get_errno())

    def __enter__(self) -> OpenedFiles:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._descriptor)

    def names(self) -> set[str]:
        """Names of the files opened since the last call."""
        found: set[str] = set()
        while True:
            try:
                events = os.read(self._descriptor, 1 << 16)
            except BlockingIOError:
                return found
            place = 0
            while place < len(events):
                *_, length = _EVENT.unpack_from(events, place)
                place += _EVENT.size
                name = events[place : place + length].rstrip(b"\0")
                place += length
                if name:  # without one it is the folder itself
                    found.add(os.fsdecode(name))


@contextmanager
def canary() -> Iterator[tuple[int, list[str]]]:
    """A server on 127.0.0.1: its port, and the requests that have come."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_error(404)

        do_HEAD = do_POST = do_GET  # noqa: N815 - the library's names

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], requests
        server.shutdown()
