"""Who gets which video, and what becomes of those of a lost worker: with workers whose fate is known beforehand."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchfakes_cli.errors import UsageError, WorkerLostError
from torchfakes_cli.records import Status, VideoResult
from torchfakes_cli.scan.spread.dispatch import MOST_FALSE_STARTS, MOST_LOSSES, Dispatch
from torchfakes_cli.scan.spread.fleet import Done, Lost, News, Ready, Unfit


class Scripted:
    """Workers that finish one video each time they are asked, the latest first, and end with a video that is deadly.

    Args:
        size: of the fleet.
        room: of each worker.
        deadly: videos by which a worker is lost, and how many times.
        false_starts: of each worker, before it gets ready.
    """

    place = "a script"

    def __init__(self, size: int, room: int, deadly: dict[str, int] | None = None, false_starts: int = 0) -> None:
        self.size = size
        self.room = room
        self.deadly = Counter(deadly or {})
        self.false_starts = dict.fromkeys(range(size), false_starts)
        self.news: deque[News] = deque()
        self.given: dict[int, dict[int, str]] = {}
        self.most = 0
        self.together_when_lost: list[list[str]] = []
        self.closed = False

    def start(self, worker: int) -> None:
        self.given[worker] = {}
        if self.false_starts[worker]:
            self.false_starts[worker] -= 1
            self.news.append(Lost(worker, "no memory"))
        else:
            self.news.append(Ready(worker))

    def give(self, worker: int, task: int, path: str) -> None:
        self.given[worker][task] = path
        self.most = max(self.most, len(self.given[worker]))

    def wait(self, timeout_s: float) -> list[News]:
        for worker, tasks in self.given.items():
            if deadly := [path for path in tasks.values() if self.deadly[path]]:
                self.deadly[deadly[0]] -= 1
                self.together_when_lost.append(list(tasks.values()))
                tasks.clear()
                self.news.append(Lost(worker, "killed"))
            elif tasks:
                task, path = tasks.popitem()
                self.news.append(Done(worker, task, VideoResult(f"/elsewhere/{path}", Status.OK)))
        found, self.news = list(self.news), deque()
        return found

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
    fleet = Scripted(size, room, {f"{number}.mp4": times for number, times in deadly.items()}, false_starts)
    results = list(Dispatch(fleet).scan(paths))
    assert sorted(result.path for result in results) == sorted(paths)
    failed = {result.path for result in results if result.status is Status.ERROR}
    # A first loss counts for all videos that the worker had, for nobody knows whose fault it was; then each goes alone.
    losses = Counter(path for together in fleet.together_when_lost for path in together)
    assert failed == {path for path, times in losses.items() if times >= MOST_LOSSES}
    assert failed >= {f"{each}.mp4" for each, times in deadly.items() if times >= MOST_LOSSES} & set(paths)
    assert failed <= {f"{each}.mp4" for each, times in deadly.items() if times >= MOST_LOSSES - 1}
    assert fleet.most <= room


def test_a_deadly_video_takes_no_other_with_it() -> None:
    fleet = Scripted(2, 4, {"b.mp4": 9})
    results = {result.path: result for result in Dispatch(fleet).scan([f"{name}.mp4" for name in "abcdefgh"])}
    assert [path for path, result in results.items() if result.error] == ["b.mp4"]
    assert results["b.mp4"].error.startswith("the worker that scanned it was lost 3 times: killed")
    assert len(fleet.together_when_lost[0]) > 1
    assert fleet.together_when_lost[1:] == [["b.mp4"]] * (MOST_LOSSES - 1)


def test_the_last_videos_are_shared_out() -> None:
    fleet = Scripted(4, 8)
    list(Dispatch(fleet).scan([f"{number}.mp4" for number in range(4)]))
    assert fleet.most == 1


def test_workers_that_never_get_ready_are_given_up() -> None:
    dispatch = Dispatch(Scripted(2, 4, false_starts=99))
    with pytest.raises(WorkerLostError, match="3 times before it was ready: no memory"):
        dispatch.load()


def test_what_is_wrong_with_the_detector_shows_before_the_first_file() -> None:
    fleet = Scripted(1, 4)
    dispatch = Dispatch(fleet)
    fleet.news.append(Unfit(0, UsageError("no such device")))
    with pytest.raises(UsageError, match="no such device"):
        dispatch.load()


def test_stopping_early_ends_the_workers() -> None:
    fleet = Scripted(2, 4)
    results = Dispatch(fleet).scan([f"{number}.mp4" for number in range(9)])
    next(results)
    assert not fleet.closed
    results.close()
    assert fleet.closed
