"""How the cores and cards of a cluster are divided among workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torchfakes_cli.errors import UsageError

#: Cores of a worker that has no card: where there are more, decoding and the networks get in each other's way.
_CORES = 4


@dataclass(frozen=True, slots=True)
class Node:
    """What a machine of the cluster lends."""

    cores: float
    cards: float = 0


@dataclass(frozen=True, slots=True)
class Shares:
    """So many workers, each with so many cores and cards."""

    workers: int
    cores: int
    cards: int


def divide(nodes: Sequence[Node], device: str, workers: int | None = None) -> Shares:
    """Divides a cluster.

    A worker never spans machines, so a share is one that fits on them as often as is needed.

    Args:
        nodes: its machines.
        device: ``cuda`` takes a card for each worker, ``cpu`` none, ``auto`` one where there are any.
        workers: how many are wanted; None for as many as there are cards or, without, fours of cores.

    Raises:
        UsageError: the cluster hasn't that much.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"--device {device} names a device of one machine", advice="With --ray choose auto, cpu or cuda."
        )
    with_cards = [node for node in nodes if node.cards >= 1] if device != "cpu" else []
    if device == "cuda" and not with_cards:
        raise UsageError("the Ray cluster has no GPU", advice="Leave --device out to use its cores.")
    if with_cards:
        cards = sum(int(node.cards) for node in with_cards)
        if workers and workers > cards:
            raise UsageError(f"{workers} workers need as many GPUs, and the Ray cluster has {cards}")
        cores = min(int(node.cores // int(node.cards)) for node in with_cards)
        if cores < 1:
            raise UsageError("a machine of the Ray cluster has more GPUs than cores", advice="Try --device cpu.")
        return Shares(workers or cards, cores, 1)
    most = int(max((node.cores for node in nodes), default=0))
    if workers is None:
        cores = min(_CORES, most)
        return Shares(_fitting(nodes, cores), cores, 0) if cores else _refuse(1, 0)
    fitting = [cores for cores in range(most, 0, -1) if _fitting(nodes, cores) >= workers]
    return Shares(workers, fitting[0], 0) if fitting else _refuse(workers, sum(int(node.cores) for node in nodes))


def _fitting(nodes: Sequence[Node], cores: int) -> int:
    """Workers with so many cores that there is room for."""
    return sum(int(node.cores // cores) for node in nodes)


def _refuse(workers: int, cores: int) -> Shares:
    raise UsageError(
        f"{workers} workers need as many cores, and the Ray cluster has {cores}", advice="Ask for fewer --workers."
    )
