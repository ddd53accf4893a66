"""``torchfakes demo``: the scan as a page in the browser."""

from __future__ import annotations

from contextlib import closing
from threading import Event
from typing import Annotated

import typer

from torchfakes_cli.cli.exit_codes import guarded
from torchfakes_cli.cli.options import (
    DEFAULT_SCAN,
    DebugOption,
    DeviceOption,
    MemoryLimitOption,
    ModelOption,
    TimeoutOption,
)
from torchfakes_cli.demo.config import DemoConfig
from torchfakes_cli.scan.config import ScanConfig

_DEFAULT = DemoConfig()
#: Seconds between two checks of the waiting thread; without them Windows would not deliver Ctrl-C.
_POLL_S = 0.5


def demo_command(
    port: Annotated[int, typer.Option(metavar="N", help="Serve the page on this port.")] = _DEFAULT.port,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Serve it on this address; 0.0.0.0 lets other machines in.")
    ] = _DEFAULT.host,
    most_mb: Annotated[
        int, typer.Option("--max-size", metavar="N", help="Refuse files that are larger.")
    ] = _DEFAULT.most_mb,
    most_minutes: Annotated[
        float, typer.Option("--max-minutes", metavar="N", help="Refuse videos that are longer.")
    ] = _DEFAULT.most_minutes,
    model: ModelOption = None,
    device: DeviceOption = DEFAULT_SCAN.device,
    timeout: TimeoutOption = DEFAULT_SCAN.timeout_s,
    memory_limit: MemoryLimitOption = DEFAULT_SCAN.memory_mb,
    debug: DebugOption = False,
) -> None:
    """Serve a page in the browser: a video in, the verdict and its evidence out.

    It is for this machine alone unless --host says otherwise, and takes one file at a time, which it deletes
    afterwards. Nothing is sent anywhere. Ctrl-C ends it.
    """
    with guarded(debug=debug):
        limits = DemoConfig(host=host, port=port, most_mb=most_mb, most_minutes=most_minutes)
        config = ScanConfig(device=device, timeout_s=timeout, memory_mb=memory_limit, jobs=1)
        _serve(limits, config, model)


def _serve(limits: DemoConfig, config: ScanConfig, model: str | None) -> None:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.demo.page import Examiner, serve

    screen = Screen()
    if not limits.is_loopback:
        screen.warning(
            f"whoever can reach {limits.host}:{limits.port} can have files scanned on this machine; "
            "nothing is encrypted and nobody is asked for a password"
        )

    def ready(address: str) -> None:
        screen.line(address)
        screen.note("Ctrl-C ends it")

    def wait() -> None:
        never = Event()
        while not never.wait(_POLL_S):
            pass

    with closing(Examiner(limits, config, model=model)) as examiner:
        with screen.progress("loading the detector"):
            examiner.load()
        try:
            serve(examiner, limits, ready=ready, wait=wait)
        except KeyboardInterrupt:  # its only end
            screen.note("ended; what was uploaded is deleted")
