"""What workers are to whoever gives them videos, on this machine or on others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torchfakes_cli.errors import TorchfakesError
from torchfakes_cli.records import VideoResult


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has loaded its networks, and takes videos."""

    worker: int


@dataclass(frozen=True, slots=True)
class Unfit:
    """A worker can't be used, and no other of its kind could."""

    worker: int
    error: TorchfakesError


@dataclass(frozen=True, slots=True)
class Done:
    """A worker has scanned a video, under this number."""

    worker: int
    task: int
    result: VideoResult


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker has ended, for this reason as a clause, and what it was given is lost with it."""

    worker: int
    reason: str


News = Ready | Unfit | Done | Lost


class Fleet(Protocol):
    """Workers, by number from 0 up.

    Attributes:
        size: how many there are.
        room: videos that each takes at once.
        place: where they work, in two or three words.
    """

    size: int
    room: int
    place: str

    def start(self, worker: int) -> None:
        """Starts a worker, or another one in place of one that was lost.

        Raises:
            TorchfakesError: it can't be started.
        """

    def give(self, worker: int, task: int, path: str) -> None:
        """Has a worker that is ready scan a video. That it has ended meanwhile is told by ``wait``."""

    def wait(self, timeout_s: float) -> list[News]:
        """What has happened; empty where nothing does in that time. A worker is lost once."""

    def close(self) -> None:
        """Ends all workers at once."""
