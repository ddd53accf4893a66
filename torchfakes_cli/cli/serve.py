"""``torchfakes serve``: the scan over HTTP."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer

from torchfakes_cli.cli.exit_codes import ExitCode, guarded
from torchfakes_cli.cli.options import DEFAULT_SCAN, LIMITS_PANEL, OUTPUT_PANEL, DebugOption, DeviceOption, ModelOption
from torchfakes_cli.errors import UsageError
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.serve.config import ServeConfig, read_token

_ACCESS = "Access"

_DEFAULT = ServeConfig()

#: Packages of the extra ``serve``.
_LIBRARIES = ("fastapi", "fastapi_offline", "uvicorn", "python_multipart", "prometheus_client")


def _limit(metavar: str, text: str, *names: str) -> Any:
    return typer.Option(*names, metavar=metavar, rich_help_panel=LIMITS_PANEL, help=text)


def serve_command(
    host: Annotated[str, typer.Option(metavar="NAME", help="Listen on this name or address.")] = _DEFAULT.host,
    port: Annotated[int, typer.Option(metavar="N", help="Listen on this port; 0 for a free one.")] = _DEFAULT.port,
    model: ModelOption = None,
    device: DeviceOption = DEFAULT_SCAN.device,
    token_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=_ACCESS,
            help="Read the token that clients must send (Authorization: Bearer TOKEN) from this file.",
            show_default="the variable TORCHFAKES_TOKEN",
        ),
    ] = None,
    no_auth: Annotated[
        bool,
        typer.Option(
            "--no-auth",
            rich_help_panel=_ACCESS,
            help="Serve every client that can connect. Without this and without a token, programs of this machine are "
            "served, but no web pages.",
        ),
    ] = False,
    max_size: Annotated[float, _limit("MIB", "Refuse clips larger than this.")] = _DEFAULT.max_size_mb,
    max_length: Annotated[float, _limit("SECONDS", "Refuse clips longer than this.")] = _DEFAULT.max_length_s,
    timeout: Annotated[float, _limit("SECONDS", "Give up on a scan after this time.")] = _DEFAULT.timeout_s,
    wait: Annotated[
        float, _limit("SECONDS", "Wait this long for the result; after that answer with the address to poll.")
    ] = _DEFAULT.wait_s,
    queue: Annotated[int, _limit("N", "Queue at most this many clips besides the one being scanned.")] = _DEFAULT.queue,
    keep: Annotated[
        float, _limit("SECONDS", "Keep results that were not waited for this long.", "--result-ttl")
    ] = _DEFAULT.keep_s,
    keep_results: Annotated[int, _limit("N", "Keep at most this many results.")] = _DEFAULT.keep_results,
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option(rich_help_panel=OUTPUT_PANEL, help="Write the log on stderr as text, or as a JSON object a line."),
    ] = "text",
    debug: DebugOption = False,
) -> None:
    """Serve verdicts over HTTP: POST a clip, get its JSON document.

    The document is the one that scan --json prints. One clip is scanned at a time, others wait. Clips are deleted when
    they are scanned. The server's /docs describes it.

    Examples:
        torchfakes serve
        TORCHFAKES_TOKEN=... torchfakes serve --host 0.0.0.0 --log-format json
    """
    with guarded(debug=debug):
        config = ServeConfig(
            host=host,
            port=port,
            max_size_mb=max_size,
            max_length_s=max_length,
            timeout_s=timeout,
            wait_s=wait,
            queue=queue,
            keep_s=keep,
            keep_results=keep_results,
        )
        token = read_token(config, token_file, os.environ, no_auth=no_auth)
        try:
            from torchfakes_cli.serve.server import run_service
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in _LIBRARIES:
                raise
            raise UsageError(
                f"the HTTP service needs {error.name}", advice="Install it: pip install 'torchfakes[serve]'."
            ) from error
        from torchfakes_cli.cli.console import Screen

        _set_up_log(as_json=log_format == "json")
        screen = Screen()
        try:
            run_service(
                config,
                ScanConfig(device=device),
                model=model,
                token=token,
                local_only=not no_auth,
                told=lambda address: screen.note(f"serving on {address}"),
            )
        except KeyboardInterrupt:
            screen.note("stopped")
            raise typer.Exit(ExitCode.INTERRUPTED) from None


class _JsonFormatter(logging.Formatter):
    """Log record as a JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the time in UTC, level, logger and message, and the fields of a scan's record."""
        written = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        written |= getattr(record, "scan", {})
        if record.exc_info:
            written["traceback"] = self.formatException(record.exc_info)
        return json.dumps(written, ensure_ascii=False)


def _set_up_log(*, as_json: bool) -> None:
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z")
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_JsonFormatter() if as_json else text)
    service_log = logging.getLogger("torchfakes_cli.serve")
    service_log.setLevel(min(logging.INFO, service_log.getEffectiveLevel()))  # a line a clip
