"""Which worker gets which video, and what happens to those of a lost worker, with workers that follow a script."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchfakes_cli.errors import TorchfakesError, UsageError, WorkerLostError
from torchfakes_cli.records import Status, VideoResult
from torchfakes_cli.scan.worker_pool import MOST_FALSE_STARTS, MOST_LOSSES, WorkerPool, named_devices


class Scripted:
    """Workers that finish one video with each call, the latest first, and end with a video that is deadly.

    Args:
        size: number of workers.
        room: of each worker.
        deadly: videos by which a worker is lost, and how many times.
        false_starts: of each worker, before it gets ready.
        hanging: the workers that are lost don't end, but answer no more.
    """

    place = "a script"

    def __init__(
        self,
        size: int,
        room: int,
        deadly: dict[str, int] | None = None,
        false_starts: int = 0,
        *,
        hanging: bool = False,
        unfit: TorchfakesError | None = None,
    ) -> None:
        self.size = size
        self.room = room
        self.hang_s = 0.05 if hanging else 60.0
        self.deadly = Counter(deadly or {})
        self.false_starts = dict.fromkeys(range(size), false_starts)
        self.given: dict[int, list[str]] = {}
        self.most = 0
        self.together_when_lost: list[list[str]] = []
        self.closed = False
        self.hanging = hanging
        self.unfit = unfit

    def start(self, worker: int) -> Future[str | TorchfakesError]:
        self.given[worker] = []
        future: Future[str | TorchfakesError] = Future()
        if self.false_starts[worker]:
            self.false_starts[worker] -= 1
            future.set_exception(RuntimeError("no memory"))
        else:
            future.set_result(self.unfit or "cpu float32")
        return future

    def exchange(self, worker: int, paths: list[str]) -> Future[list[VideoResult]]:
        videos = self.given[worker]
        videos += paths
        self.most = max(self.most, len(videos))
        future: Future[list[VideoResult]] = Future()
        if deadly := [path for path in videos if self.deadly[path]]:
            self.deadly[deadly[0]] -= 1
            self.together_when_lost.append([Path(path).name for path in videos])
            if not self.hanging:
                future.set_exception(RuntimeError("killed"))
        else:
            future.set_result([VideoResult(videos.pop(), Status.OK)])
        return future

    def close(self) -> None:
        self.closed = True


@given(
    videos=st.integers(1, 30),
    size=st.integers(1, 5),
    room=st.integers(1, 6),
    deadly=st.dictionaries(st.integers(0, 29), st.integers(1, 5), max_size=4),
    false_starts=st.integers(0, MOST_FALSE_STARTS - 1),
)
def test_each_video_has_one_result_whoever_is_lost(
    videos: int, size: int, room: int, deadly: dict[int, int], false_starts: int
) -> None:
    paths = [f"{number}.mp4" for number in range(videos)]
    script = Scripted(
        size, room, {str(Path(f"{number}.mp4").absolute()): times for number, times in deadly.items()}, false_starts
    )
    results = list(WorkerPool(script).scan(paths))
    assert sorted(result.path for result in results) == sorted(paths)
    failed = {result.path for result in results if result.status is Status.ERROR}
    # A first loss counts for all videos that the worker had, for nobody knows whose fault it was; then each goes alone.
    losses = Counter(path for together in script.together_when_lost for path in together)
    assert failed == {path for path, times in losses.items() if times >= MOST_LOSSES}
    assert failed >= {f"{each}.mp4" for each, times in deadly.items() if times >= MOST_LOSSES} & set(paths)
    assert failed <= {f"{each}.mp4" for each, times in deadly.items() if times >= MOST_LOSSES - 1}
    assert script.most <= room


@pytest.mark.parametrize(("hanging", "reason"), [(False, "killed"), (True, "it gave no sign of life")])
def test_a_deadly_video_takes_no_other_with_it(hanging: bool, reason: str) -> None:
    script = Scripted(2, 4, {str(Path("b.mp4").absolute()): 9}, hanging=hanging)
    results = {result.path: result for result in WorkerPool(script).scan([f"{name}.mp4" for name in "abcdefgh"])}
    assert [path for path, result in results.items() if result.error] == ["b.mp4"]
    assert results["b.mp4"].error
    assert results["b.mp4"].error.startswith(f"the worker that scanned it was lost 3 times: {reason}")
    assert len(script.together_when_lost[0]) > 1
    assert script.together_when_lost[1:] == [["b.mp4"]] * (MOST_LOSSES - 1)


def test_the_last_videos_are_shared_out() -> None:
    script = Scripted(4, 8)
    list(WorkerPool(script).scan([f"{number}.mp4" for number in range(4)]))
    assert script.most == 1


def test_workers_that_never_get_ready_are_given_up() -> None:
    pool = WorkerPool(Scripted(2, 4, false_starts=99))
    with pytest.raises(WorkerLostError, match="3 times before it was ready: no memory"):
        pool.load()


def test_what_is_wrong_with_the_detector_shows_before_the_first_file() -> None:
    pool = WorkerPool(Scripted(1, 4, unfit=UsageError("no such device")))
    with pytest.raises(UsageError, match="no such device"):
        pool.load()


def test_stopping_early_ends_the_workers() -> None:
    script = Scripted(2, 4)
    results = WorkerPool(script).scan([f"{number}.mp4" for number in range(9)])
    next(results)
    assert not script.closed
    results.close()
    assert script.closed


def test_devices_are_named_one_a_process() -> None:
    assert named_devices("cpu, cpu") == ("cpu", "cpu")
    for wrong in ("cpu,", "cpu,toast"):
        with pytest.raises(UsageError, match="no device called"):
            named_devices(wrong)
