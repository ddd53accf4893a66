"""Terminal output with Rich: results on stdout, everything else on stderr."""

from __future__ import annotations

from torchfakes_cli.cli.console.profile_view import profile_table
from torchfakes_cli.cli.console.screen import Screen, duration
from torchfakes_cli.cli.console.verdict_view import show_verdict, verdict_line, verdict_panel
from torchfakes_cli.report.text import safe

__all__ = ["Screen", "duration", "profile_table", "safe", "show_verdict", "verdict_line", "verdict_panel"]
