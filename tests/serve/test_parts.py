"""Parts of the service that need no server: names, who is let in, and the queue."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from torchfakes_cli.serve.access import is_loopback
from torchfakes_cli.serve.config import ServeConfig
from torchfakes_cli.serve.jobs import Jobs, QueueFullError, State
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


def test_the_queue_is_bounded_and_old_results_go(tmp_path: Path) -> None:
    async def run() -> None:
        jobs = Jobs(ServeConfig(queue=2, keep_results=2), tmp_path)
        first = jobs.admit()
        jobs.enqueue(first)
        assert await jobs.next() is first
        waiting = [jobs.admit(), jobs.admit()]
        with pytest.raises(QueueFullError):
            jobs.admit()
        assert jobs.find(waiting[0].id) is None  # it is still on its way
        jobs.enqueue(waiting[1])
        jobs.enqueue(waiting[0])
        assert [jobs.place(job) for job in (first, waiting[1], waiting[0])] == [None, 1, 2]
        jobs.finish(first, "{}", 1.0)
        assert await jobs.next() is waiting[1]
        jobs.finish(waiting[1], "{}")
        jobs.forget(waiting[0])
        assert waiting[0].stopped
        for _ in range(2):
            job = jobs.admit()
            jobs.enqueue(job)
            assert await jobs.next() is job
            jobs.finish(job, "{}")
        assert jobs.find(first.id) is None
        assert jobs.find(waiting[1].id) is None
        assert jobs.find(job.id) is job
        assert job.state is State.DONE

    asyncio.run(run())


def test_results_are_kept_for_a_while(tmp_path: Path) -> None:
    async def run() -> None:
        jobs = Jobs(ServeConfig(keep_s=0.05), tmp_path)
        job = jobs.admit()
        jobs.enqueue(job)
        await jobs.next()
        jobs.finish(job, "{}")
        assert jobs.find(job.id) is job
        await asyncio.sleep(0.1)
        assert jobs.find(job.id) is None

    asyncio.run(run())
