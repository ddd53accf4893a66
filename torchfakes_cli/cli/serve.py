"""``torchfakes serve``: the scan over HTTP."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from torchfakes_cli.cli.exit_codes import ExitCode, guarded
from torchfakes_cli.cli.options import DEFAULT_SCAN, LIMITS, OUTPUT, Debug, Device, Model, configured, option
from torchfakes_cli.errors import UsageError
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.serve.config import ServeConfig, read_token

_ACCESS = "Access"

_DEFAULT = ServeConfig()

#: Packages of the extra ``serve``.
_LIBRARIES = ("fastapi", "fastapi_offline", "uvicorn", "python_multipart", "prometheus_client")


def serve_command(
    context: typer.Context,
    host: Annotated[str, option(None, "NAME", "Listen on this name or address.")] = _DEFAULT.host,
    port: Annotated[int, option(None, "N", "Listen on this port; 0 for a free one.")] = _DEFAULT.port,
    model: Model = None,
    device: Device = DEFAULT_SCAN.device,
    token_file: Annotated[
        str | None,
        option(
            _ACCESS,
            "FILE",
            "Read the token that clients must send (Authorization: Bearer TOKEN) from this file.",
            default="the variable TORCHFAKES_TOKEN",
        ),
    ] = None,
    no_auth: Annotated[
        bool,
        option(
            _ACCESS,
            None,
            "Serve every client that can connect. Without this and without a token, programs of this machine are "
            "served, but no web pages.",
            "--no-auth",
        ),
    ] = False,
    max_size_mb: Annotated[
        float, option(LIMITS, "MIB", "Refuse clips larger than this.", "--max-size")
    ] = _DEFAULT.max_size_mb,
    max_length_s: Annotated[
        float, option(LIMITS, "SECONDS", "Refuse clips longer than this.", "--max-length")
    ] = _DEFAULT.max_length_s,
    timeout_s: Annotated[
        float, option(LIMITS, "SECONDS", "Give up on a scan after this time.", "--timeout")
    ] = _DEFAULT.timeout_s,
    wait_s: Annotated[
        float,
        option(
            LIMITS, "SECONDS", "Wait this long for the result; after that answer with the address to poll.", "--wait"
        ),
    ] = _DEFAULT.wait_s,
    queue: Annotated[
        int, option(LIMITS, "N", "Queue at most this many clips besides the one being scanned.")
    ] = _DEFAULT.queue,
    keep_s: Annotated[
        float, option(LIMITS, "SECONDS", "Keep results that were not waited for this long.", "--result-ttl")
    ] = _DEFAULT.keep_s,
    keep_results: Annotated[int, option(LIMITS, "N", "Keep at most this many results.")] = _DEFAULT.keep_results,
    log_format: Annotated[
        Literal["text", "json"],
        option(OUTPUT, None, "Write the log on stderr as text, or as a JSON object a line."),
    ] = "text",
    debug: Debug = False,
) -> None:
    """Serve verdicts over HTTP: POST a clip, get its JSON document.

    The document is the one that scan --json prints. One clip is scanned at a time, others wait. Clips are deleted when
    they are scanned. The server's /docs describes it.

    Examples:
        torchfakes serve
        TORCHFAKES_TOKEN=... torchfakes serve --host 0.0.0.0 --log-format json
    """
    with guarded(debug=debug) as screen:
        config = configured(ServeConfig, context)
        token = read_token(config, token_file, os.environ, no_auth=no_auth)
        try:
            from torchfakes_cli.serve.server import run_service
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in _LIBRARIES:
                raise
            advice = "Install it: pip install 'torchfakes[serve]'."
            raise UsageError(f"the HTTP service needs {error.name}", advice=advice) from error
        _set_up_log(as_json=log_format == "json")
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
