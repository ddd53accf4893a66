"""One conversation with the decoding process about one file: what is asked, how long an answer is waited for."""

from __future__ import annotations

import math
import time
from pathlib import Path
from threading import Event
from typing import Never

from torchfakes_cli.errors import DecoderCrashError, DecodeTimeoutError, TooLargeError, TorchfakesError
from torchfakes_cli.video.channel import Failed, Progress
from torchfakes_cli.video.process import DecodingProcess

#: Waiting is cut into such slices, to notice that it isn't wanted any more.
LOOK_UP_S = 0.1


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


class Patience:
    """How long a process is waited for.

    Args:
        silence_s: without a sign of progress.
        total_s: in all.

    Attributes:
        slice_s: how long to wait at once.
    """

    def __init__(self, silence_s: float, total_s: float = math.inf) -> None:
        self._silence_s = silence_s
        self._total_s = total_s
        self.slice_s = min(LOOK_UP_S, silence_s)
        self._silent_s = 0.0
        self._spent_s = 0.0

    def renew(self) -> None:
        """The wait for another message begins."""
        self._silent_s = 0.0

    def spend(self, seconds: float, *, progress: bool) -> None:
        """Some time was waited."""
        self._silent_s = 0.0 if progress else self._silent_s + seconds
        self._spent_s += seconds

    @property
    def over(self) -> str:
        """Why there is no sense in waiting any longer; empty while there is."""
        if self._silent_s >= self._silence_s:
            return f"its decoder made no progress for {self._silence_s:g} s"
        if self._spent_s >= self._total_s:
            return f"decoding it took longer than {self._total_s:.0f} s"
        return ""
