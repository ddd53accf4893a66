"""Steps that an interruption waits for, so that what is saved afterwards is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM for the time of the block; what came is handled at its end.

    Signals reach the main thread alone: elsewhere there is nothing to hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    handlers = {kind: handler for kind in _SIGNALS if (handler := signal.getsignal(kind)) is not None}
    for kind in handlers:
        signal.signal(kind, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        for kind, handler in handlers.items():
            signal.signal(kind, handler)
    for number, frame in came[:1]:
        handler = handlers[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        elif handler == signal.SIG_DFL:
            signal.raise_signal(number)
