from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from torchfakes_cli.errors import UsageError
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.ray_backend import RayBackend, divide


@pytest.mark.parametrize(
    ("nodes", "device", "workers", "shares"),
    [
        ([{"CPU": 2}], "auto", None, (1, 2, 0)),
        ([{"CPU": 2}], "auto", 2, (2, 1, 0)),
        ([{"CPU": 16}, {"CPU": 6}], "auto", None, (5, 4, 0)),
        ([{"CPU": 16}, {"CPU": 6}], "cpu", 3, (3, 6, 0)),
        # A head without cards lends them no cores.
        ([{"CPU": 64}, {"CPU": 32, "GPU": 8}, {"CPU": 48, "GPU": 8}], "auto", None, (16, 4, 1)),
        ([{"CPU": 32, "GPU": 4}], "cuda", 2, (2, 8, 1)),
        ([{"CPU": 32, "GPU": 4}], "cpu", None, (8, 4, 0)),
    ],
)
def test_a_cluster_is_divided(
    nodes: list[dict[str, float]], device: str, workers: int | None, shares: tuple[int, int, int]
) -> None:
    assert divide(nodes, device, workers) == shares


@pytest.mark.parametrize(
    ("nodes", "device", "workers", "reason"),
    [
        ([{"CPU": 2}], "cuda", None, "no GPU"),
        ([{"CPU": 2}], "cuda:0", None, "one machine"),
        ([{"CPU": 2}], "auto", 3, "3 workers need as many cores"),
        ([{"CPU": 8, "GPU": 2}], "auto", 3, "3 workers need as many GPUs"),
        ([{"CPU": 4, "GPU": 8}], "auto", None, "more GPUs than cores"),
        ([], "auto", None, "has 0"),
    ],
)
def test_what_a_cluster_has_not(nodes: list[dict[str, float]], device: str, workers: int | None, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        divide(nodes, device, workers)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("local", "Ray can't be started on this machine: The current node timed out during startup"),
        ("auto", "no Ray cluster at 'auto': The current node timed out during startup"),
    ],
)
def test_a_timeout_at_the_start_of_ray_is_one_line(monkeypatch: pytest.MonkeyPatch, address: str, message: str) -> None:
    """Ray waits half a minute for a node that doesn't come, which can't be had at will; so its part is played here."""

    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup. This\ncould happen because some raylet failed.")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    with pytest.raises(UsageError, match=message) as caught:
        RayBackend(address, ScanConfig())
    assert "\n" not in str(caught.value)
