"""One conversation with the decoding process about one file: what is asked, how long an answer is waited for."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event
from typing import Never

from torchfakes_cli.errors import DecoderCrashError, DecodeTimeoutError, TooLargeError, TorchfakesError
from torchfakes_cli.video.channel import Failed, Progress
from torchfakes_cli.video.patience import Patience
from torchfakes_cli.video.process import DecodingProcess


class Dialogue:
    """Asks the process, and says in an error of ours what becomes of it.

    Args:
        process: that is asked; this waits until it is ready.
        path: of the file that it is about.
        timeout_s: it is given up when it makes no progress for so many seconds.
    """

    def __init__(self, process: DecodingProcess, path: str, timeout_s: float) -> None:
        self._process = process
        self._path = path
        self._timeout_s = timeout_s
        self._running = False
        self._stopped = Event()
        process.wait_until_ready()

    @property
    def _folder(self) -> str:
        """That the path starts from; empty where it needs none."""
        return "" if Path(self._path).is_absolute() else str(Path.cwd())

    def _ask(self, request: object, patience: Patience) -> object:
        """Sends a request and waits for the answer."""
        self._send(request)
        return self._next(patience)

    def _send(self, message: object) -> None:
        try:
            self._process.send(message)
        except OSError:
            self._crashed()

    def _next(self, patience: Patience) -> object | None:
        """The next message that tells more than progress; None where the reader has been stopped.

        Raises:
            TorchfakesError: what the process tells, or what is to be said of its end.
        """
        patience.renew()
        while not self._stopped.is_set():
            started = time.monotonic()
            try:
                message = self._process.receive(patience.slice_s)
            except (EOFError, OSError):
                self._crashed()
            except KeyboardInterrupt:
                self._process.end()  # it would go on, and answer the next request with what was meant for this one
                raise
            # A slice that took far longer than it should: this process was stopped, and the other one perhaps as well.
            patience.spend(min(time.monotonic() - started, 2 * patience.slice_s), progress=message is not None)
            if isinstance(message, Failed):
                self._failed(message.error)
            if message is not None and not isinstance(message, Progress):
                return message
            if patience.over:
                self._give_up(patience.over)
        return None

    def _failed(self, error: TorchfakesError) -> Never:
        self._running = False
        if isinstance(error, TooLargeError):
            self._process.end()  # what it still holds would be missing to the next file
        raise error

    def _give_up(self, why: str) -> Never:
        self._running = False
        self._process.end()
        raise DecodeTimeoutError(
            f"timeout: {why}", path=self._path, advice="It may be damaged; if it is only slow, raise --timeout."
        )

    def _crashed(self) -> Never:
        self._running = False
        raise DecoderCrashError(
            self._process.end_described(), path=self._path, advice="The file is damaged: copy or download it again."
        )
