"""The scan as an HTTP service: clips are received, wait for one scanner, and are deleted when they are scanned."""

from __future__ import annotations

from torchfakes_cli.serve.access import read_token
from torchfakes_cli.serve.server import run_service

__all__ = ["read_token", "run_service"]
