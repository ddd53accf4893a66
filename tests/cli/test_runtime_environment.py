from __future__ import annotations

import os

import pytest

from torchfakes_cli.cli import set_up_runtime

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A copy of the environment in its place, as if the user had set nothing."""
    bare = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    monkeypatch.setattr(os, "environ", bare)
    return bare


def test_a_training_keeps_its_threads_awake_and_all_that_it_prepared(environment: dict[str, str]) -> None:
    set_up_runtime("train")
    assert {name for name in VARIABLES if name in environment} == {"GOMP_SPINCOUNT"}


@pytest.mark.parametrize("command", ["scan", "serve", None])
def test_other_commands_leave_the_cores_to_others(environment: dict[str, str], command: str | None) -> None:
    set_up_runtime(command)
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "GOMP_SPINCOUNT" not in environment


@pytest.mark.parametrize("command", ["train", "scan"])
@pytest.mark.parametrize("variable", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "LRU_CACHE_CAPACITY"])
def test_what_the_user_has_set_stays(environment: dict[str, str], command: str, variable: str) -> None:
    environment[variable] = "7"
    set_up_runtime(command)
    assert environment[variable] == "7"
    # Either of the two would override the other.
    assert not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} <= environment.keys()
