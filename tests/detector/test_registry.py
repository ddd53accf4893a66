"""A name means the same detector to every command."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchfakes_cli.detector.registry import find_checkpoint, installed, path_of, shipped_checkpoint
from torchfakes_cli.errors import ModelNotFoundError, UsageError
from torchfakes_cli.scan.batch import settings_digest
from torchfakes_cli.scan.config import ScanConfig


def put(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    path.write_bytes(name.encode())
    return path


def test_names_lead_to_the_models_folder(own_models: Path) -> None:
    mine = put(own_models, "mine")
    assert find_checkpoint("mine") == mine
    assert find_checkpoint("torchfakes") == shipped_checkpoint()
    assert installed() == {"mine": mine}


def test_a_file_wins_over_a_name(own_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(own_models, "mine")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_bytes(b"")
    assert find_checkpoint("mine") == Path("mine")


def test_a_folder_does_not_hide_a_name(own_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = put(own_models, "mine")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert find_checkpoint("mine") == mine


@pytest.mark.usefixtures("own_models")
def test_what_is_not_there_leads_to_the_next_step() -> None:
    with pytest.raises(ModelNotFoundError, match="models fetch origin"):
        find_checkpoint("origin")
    with pytest.raises(ModelNotFoundError, match="models list"):
        find_checkpoint("nobodys")


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", ".hidden", "x" * 65, "a b", "torchfakes", "m.safetensors"])
@pytest.mark.usefixtures("own_models")
def test_names_that_would_leave_the_folder_or_confuse_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        path_of(name)


def test_rows_of_a_batch_tell_detectors_of_two_names_apart(own_models: Path) -> None:
    put(own_models, "one")
    put(own_models, "two")
    config = ScanConfig()
    assert settings_digest(config, "one") != settings_digest(config, "two")
    assert settings_digest(config, "one") == settings_digest(config, own_models / "one.safetensors")
