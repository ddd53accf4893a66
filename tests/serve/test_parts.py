"""Parts of the service that need no server: names, who is let in, and the queue."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from starlette.exceptions import HTTPException

from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.serve.config import ServeConfig, is_loopback
from torchfakes_cli.serve.service import Service, State
from torchfakes_cli.serve.upload import shown_name


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("clip.mp4", "clip.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\clips\\a.mov", "a.mov"),
        ("a\x1b[31m\u202eb\nc.mp4", "a[31mbc.mp4"),
        ("\udce9\udcff", "clip"),
        ("..", "clip"),
        ("", "clip"),
        ("ü 映像.mp4", "ü 映像.mp4"),
        ("x" * 500 + ".mp4", "x" * 196 + ".mp4"),
    ],
)
def test_names_are_shown_without_what_misleads(given: str, shown: str) -> None:
    assert shown_name(given) == shown


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "localhost.example.org", "2130706433", ""])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def ready_service(config: ServeConfig, folder: Path) -> Service:
    """A service that takes clips, and doesn't scan them."""
    service = Service(config, ScanConfig(), folder)
    service.ready = True
    return service


def test_the_queue_is_bounded_and_old_results_go(tmp_path: Path) -> None:
    async def run() -> None:
        service = ready_service(ServeConfig(queue=2, keep_results=2), tmp_path)
        first = service.admit()
        service.enqueue(first)
        assert await service.next() is first
        waiting = [service.admit(), service.admit()]
        with pytest.raises(HTTPException, match="the queue is full") as full:
            service.admit()
        assert full.value.status_code == 429
        assert full.value.headers == {"Retry-After": "5"}
        assert service.find(waiting[0].id) is None  # it is still on its way
        service.enqueue(waiting[1])
        service.enqueue(waiting[0])
        ahead = [service.document(job)["ahead"] for job in (first, waiting[1], waiting[0])]
        assert ahead == [None, 1, 2]
        service.finish(first, "{}")
        assert await service.next() is waiting[1]
        service.finish(waiting[1], "{}")
        service.forget(waiting[0])
        assert waiting[0].stopped
        for _ in range(2):
            job = service.admit()
            service.enqueue(job)
            assert await service.next() is job
            service.finish(job, "{}")
        assert service.find(first.id) is None
        assert service.find(waiting[1].id) is None
        assert service.find(job.id) is job
        assert job.state is State.DONE

    asyncio.run(run())


def test_results_are_kept_for_a_while(tmp_path: Path) -> None:
    async def run() -> None:
        service = ready_service(ServeConfig(keep_s=0.05), tmp_path)
        job = service.admit()
        service.enqueue(job)
        await service.next()
        service.finish(job, "{}")
        assert service.find(job.id) is job
        await asyncio.sleep(0.1)
        assert service.find(job.id) is None

    asyncio.run(run())
