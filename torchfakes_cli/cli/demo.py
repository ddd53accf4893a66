"""``torchfakes demo``: the scan as a page in the browser."""

from __future__ import annotations

from contextlib import closing
from threading import Event
from typing import Annotated

import typer

from torchfakes_cli.cli.exit_codes import guarded
from torchfakes_cli.cli.options import (
    DEFAULT_SCAN,
    Debug,
    Device,
    MemoryLimit,
    Model,
    Timeout,
    configured,
    option,
)
from torchfakes_cli.demo.config import DemoConfig
from torchfakes_cli.scan.config import ScanConfig

_DEFAULT = DemoConfig()
#: Seconds between two checks of the waiting thread; without them Windows would not deliver Ctrl-C.
_POLL_S = 0.5


def demo_command(
    context: typer.Context,
    port: Annotated[int, option(None, "N", "Serve the page on this port.")] = _DEFAULT.port,
    host: Annotated[
        str, option(None, "ADDRESS", "Serve it on this address; 0.0.0.0 lets other machines in.")
    ] = _DEFAULT.host,
    most_mb: Annotated[int, option(None, "N", "Refuse files that are larger.", "--max-size")] = _DEFAULT.most_mb,
    most_minutes: Annotated[
        float, option(None, "N", "Refuse videos that are longer.", "--max-minutes")
    ] = _DEFAULT.most_minutes,
    model: Model = None,
    device: Device = DEFAULT_SCAN.device,
    timeout_s: Timeout = DEFAULT_SCAN.timeout_s,
    memory_mb: MemoryLimit = DEFAULT_SCAN.memory_mb,
    debug: Debug = False,
) -> None:
    """Serve a page in the browser: a video in, the verdict and its evidence out.

    It is for this machine alone unless --host says otherwise, and takes one file at a time, which it deletes
    afterwards. Nothing is sent anywhere. Ctrl-C ends it.
    """
    with guarded(debug=debug) as screen:
        from torchfakes_cli.demo.page import Examiner, serve

        limits = configured(DemoConfig, context)
        if not limits.is_loopback:
            screen.warning(
                f"anyone who can reach {limits.host}:{limits.port} can have files scanned on this machine; "
                "nothing is encrypted and nobody is asked for a password"
            )

        def ready(address: str) -> None:
            screen.line(address)
            screen.note("Ctrl-C ends it")

        def wait() -> None:
            never = Event()
            while not never.wait(_POLL_S):
                pass

        with closing(Examiner(limits, configured(ScanConfig, context, jobs=1), model=model)) as examiner:
            with screen.progress("loading the detector"):
                examiner.load()
            try:
                serve(examiner, limits, ready=ready, wait=wait)
            except KeyboardInterrupt:  # its only end
                screen.note("ended; what was uploaded is deleted")
