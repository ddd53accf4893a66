"""Workers as processes of this machine, one a device."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import wait as wait_for
from os import PathLike, fspath
from typing import TYPE_CHECKING

from torchfakes_cli.config import ScanConfig
from torchfakes_cli.errors import TorchfakesError
from torchfakes_cli.records import VideoResult
from torchfakes_cli.scan.pipeline import jobs_for
from torchfakes_cli.scan.spread.arrivals import get_ready
from torchfakes_cli.scan.spread.fleet import Done, Lost, News, Ready, Unfit
from torchfakes_cli.video import usable_cores

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

#: Seconds until a process that was told to end is no longer waited for.
_STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class Duty:
    """What a worker is told when it starts.

    Attributes:
        number: its own.
        config: of the scans, with its device.
        model: path or name of the checkpoint; None for the one that ships.
        cores: that it may count on.
        debug: show the log.
    """

    number: int
    config: ScanConfig
    model: str | None
    cores: int
    debug: bool


class Processes:
    """A ``Fleet`` on this machine.

    Args:
        devices: one a process, such as ``cuda:0`` and ``cuda:1``.
        config: of the scans; ``jobs`` is that of each process.
        model: path or name of a checkpoint; None for the one that ships.
    """

    def __init__(self, devices: Sequence[str], config: ScanConfig, model: str | PathLike[str] | None = None) -> None:
        self.size = len(devices)
        self.place = f"{self.size} processes"
        cores = max(1, usable_cores() // self.size)
        self.room = room_for(config, cores)
        debug = logging.getLogger("torchfakes_cli").isEnabledFor(logging.DEBUG)
        named = None if model is None else fspath(model)
        self._duties = [
            Duty(number, replace(config, device=device), named, cores, debug) for number, device in enumerate(devices)
        ]
        self._workers: dict[int, tuple[SpawnProcess, Connection[object, News]]] = {}

    def start(self, worker: int) -> None:
        """See ``Fleet``."""
        # Never fork: torch's and CUDA's state don't survive it.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, self._duties[worker]), name=f"scan-{worker}")
        try:
            process.start()
        except OSError as error:
            raise TorchfakesError(f"a scanning process can't be started: {error.strerror or error}") from error
        finally:
            theirs.close()
        self._workers[worker] = process, ours

    def give(self, worker: int, task: int, path: str) -> None:
        """See ``Fleet``."""
        with suppress(OSError):  # it has ended, which is told when it is waited for
            self._workers[worker][1].send((task, path))

    def wait(self, timeout_s: float) -> list[News]:
        """See ``Fleet``."""
        numbers = {connection: number for number, (_, connection) in self._workers.items()}
        found: list[News] = []
        for connection in wait_for(list(numbers), timeout_s):
            number = numbers[connection]  # type: ignore[index]  # they are what was given
            try:
                found.append(self._workers[number][1].recv())
            except (EOFError, OSError):
                found.append(Lost(number, self._bury(number)))
        return found

    def close(self) -> None:
        """See ``Fleet``; decoders end with their process."""
        for process, connection in self._workers.values():
            connection.close()
            process.kill()
        for process, _ in self._workers.values():
            process.join(_STOP_S)
        self._workers.clear()

    def _bury(self, worker: int) -> str:
        """How a process has ended, in words."""
        process, connection = self._workers.pop(worker)
        connection.close()
        process.join(_STOP_S)
        code = process.exitcode
        if code is None:
            process.kill()
            return "it fell silent"
        if code >= 0:
            return f"it ended with exit code {code}"
        with suppress(ValueError):
            return f"it was ended by {signal.Signals(-code).name}"
        return f"it was ended by signal {-code}"


def room_for(config: ScanConfig, cores: int) -> int:
    """Videos that a worker takes at once: as many as it decodes, and as many again, so that it never waits for one."""
    return 2 * jobs_for(config, cores)


def serve(connection: Connection[News, tuple[int, str]], duty: Duty) -> None:
    """Scans what comes through a connection, until that is closed; the life of a worker."""
    # An interrupt at the terminal reaches every process; the parent answers it and ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_up_log(debug=duty.debug)
    sending = threading.Lock()

    def tell(task: int, future: Future[VideoResult]) -> None:
        error = future.exception()
        if error is not None:  # the scanner itself has failed, so another process is needed
            sys.stderr.flush()
            os._exit(1)
        with suppress(OSError), sending:
            connection.send(Done(duty.number, task, future.result()))

    arrivals = get_ready(duty.config, duty.model, duty.cores)
    if isinstance(arrivals, TorchfakesError):
        connection.send(Unfit(duty.number, arrivals))
        os._exit(1)
    with sending:
        connection.send(Ready(duty.number))
    with suppress(EOFError, OSError):
        while True:
            task, path = connection.recv()
            arrivals.submit(path).add_done_callback(lambda future, task=task: tell(task, future))  # type: ignore[misc]
    os._exit(0)  # nobody is left to wait for a result


def set_up_log(*, debug: bool = False) -> None:
    """A worker's log, as quiet as the command's."""
    logging.captureWarnings(not debug)
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    if debug:
        logging.getLogger("torchfakes_cli").setLevel(logging.DEBUG)
