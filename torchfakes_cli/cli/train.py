"""``torchfakes train``: from a folder of crops to a detector."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torchfakes_cli import config as settings
from torchfakes_cli.cli.outcome import ExitCode, guarded, show_error
from torchfakes_cli.config import PrepareConfig, TrainConfig, train_recipe

if TYPE_CHECKING:
    from torchfakes_cli.cli.console import Screen
    from torchfakes_cli.training.train import TrainProgress, TrainSummary

_START = "Start and length"
_DATA = "Data"
_NETWORK = "Network"
_RATE = "How it learns"
_MACHINE = "Machine"
_OUTPUT = "Output"

_DEFAULT = TrainConfig()


def _choice(name: str, values: tuple[str, ...]) -> type[StrEnum]:
    kind: type[StrEnum] = StrEnum(name, {value.upper(): value for value in values})  # type: ignore[assignment]
    return kind


_Recipe = _choice("Recipe", settings.RECIPES)
