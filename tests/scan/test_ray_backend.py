from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from torchfakes_cli.errors import UsageError
from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.scan.ray_backend import Node, RayCluster, Shares, divide


@pytest.mark.parametrize(
    ("nodes", "device", "workers", "shares"),
    [
        ([Node(2)], "auto", None, Shares(1, 2, 0)),
        ([Node(2)], "auto", 2, Shares(2, 1, 0)),
        ([Node(16), Node(6)], "auto", None, Shares(5, 4, 0)),
        ([Node(16), Node(6)], "cpu", 3, Shares(3, 6, 0)),
        # A head without cards lends them no cores.
        ([Node(64), Node(32, 8), Node(48, 8)], "auto", None, Shares(16, 4, 1)),
        ([Node(32, 4)], "cuda", 2, Shares(2, 8, 1)),
        ([Node(32, 4)], "cpu", None, Shares(8, 4, 0)),
    ],
)
def test_a_cluster_is_divided(nodes: list[Node], device: str, workers: int | None, shares: Shares) -> None:
    assert divide(nodes, device, workers) == shares
    fitting = sum(
        int(node.cores // shares.cores) if not shares.cards else min(int(node.cores // shares.cores), int(node.cards))
        for node in nodes
    )
    assert fitting >= shares.workers


@pytest.mark.parametrize(
    ("nodes", "device", "workers", "reason"),
    [
        ([Node(2)], "cuda", None, "no GPU"),
        ([Node(2)], "cuda:0", None, "one machine"),
        ([Node(2)], "auto", 3, "3 workers need as many cores"),
        ([Node(8, 2)], "auto", 3, "3 workers need as many GPUs"),
        ([Node(4, 8)], "auto", None, "more GPUs than cores"),
        ([], "auto", None, "has 0"),
    ],
)
def test_what_a_cluster_has_not(nodes: list[Node], device: str, workers: int | None, reason: str) -> None:
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
        RayCluster(address, ScanConfig())
    assert "\n" not in str(caught.value)
