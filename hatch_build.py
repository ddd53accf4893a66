"""Adds the manual pages to the wheel, written by the commands that it holds."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualPages(BuildHookInterface):
    """Writes the pages for the time of a build; the command line itself needs Typer alone."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the pages, and tell the builder where they go."""
        sys.path.insert(0, self.root)
        from typer.main import get_command

        from torchfakes_cli.cli import app
        from torchfakes_cli.cli.man import man_pages

        self._folder = tempfile.TemporaryDirectory()
        for name, page in man_pages(get_command(app)).items():
            path = Path(self._folder.name) / name
            path.write_text(page, encoding="ascii", newline="\n")
            build_data["shared_data"][str(path)] = f"share/man/man1/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove them."""
        self._folder.cleanup()
