"""The public API of ``torchfakes_cli`` under the name of the command: ``import torchfakes``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torchfakes_cli

if TYPE_CHECKING:
    from torchfakes_cli import *  # noqa: F403

__all__ = torchfakes_cli.__all__


def __getattr__(name: str) -> Any:
    return getattr(torchfakes_cli, name)


def __dir__() -> list[str]:
    return list(__all__)
