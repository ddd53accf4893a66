"""Terminal output with Rich: results on stdout, everything else on stderr."""

from __future__ import annotations

from torchfakes_cli.cli.console.screen import Screen, duration, texts_table
from torchfakes_cli.cli.console.verdict_view import show_verdict, verdict_line, verdict_panel
from torchfakes_cli.report.formatting import safe

__all__ = ["Screen", "duration", "safe", "show_verdict", "texts_table", "verdict_line", "verdict_panel"]
