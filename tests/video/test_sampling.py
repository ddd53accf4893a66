from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchfakes_cli.config import SamplingConfig
from torchfakes_cli.video.sampling import choose_frames, nearest_frames


def constant_rate(frames: int, fps: float) -> tuple[np.ndarray, float]:
    return np.arange(frames) / fps, frames / fps


@st.composite
def timelines(draw: st.DrawFn) -> tuple[np.ndarray, float]:
    """Increasing frame times from 0 with gaps from a millisecond to days, and when the last frame ends."""
    gap = st.one_of(st.floats(0.001, 0.1), st.floats(0.001, 5.0), st.floats(10.0, 1e6))
    gaps = draw(st.lists(gap, min_size=0, max_size=200))
    times = np.concatenate(([0.0], np.cumsum(gaps)))
    return times, float(times[-1]) + draw(st.floats(0.001, 1.0))


@st.composite
def samplings(draw: st.DrawFn) -> SamplingConfig:
    start = draw(st.floats(0, 20))
    end = draw(st.none() | st.floats(0.01, 40).map(lambda length: start + length))
    if draw(st.booleans()):
        fps = draw(st.fractions(Fraction(1, 100), Fraction(120)))
        return SamplingConfig(fps=fps, start_s=start, end_s=end)
    frames = draw(st.integers(1, 300))
    return SamplingConfig(frames=frames, frames_fixed=draw(st.booleans()), start_s=start, end_s=end)


@given(timelines(), samplings())
def test_chosen_frames_are_distinct_ordered_and_lie_in_the_span(
    timeline: tuple[np.ndarray, float], sampling: SamplingConfig
) -> None:
    times, duration = timeline
    chosen = choose_frames(times, duration, sampling)
    inside = (times >= sampling.start_s) & (times < (np.inf if sampling.end_s is None else sampling.end_s))
    assert len(chosen) <= inside.sum()
    assert (len(chosen) > 0) == inside.any()
    assert np.all(np.diff(chosen) > 0)
    assert inside[chosen].all()


@given(st.integers(1, 2000), st.sampled_from([10.0, 23.976, 25.0, 29.97, 30.0, 60.0, 240.0]), st.integers(1, 64))
def test_a_fixed_number_is_spread_evenly_from_first_to_last(frames: int, fps: float, wanted: int) -> None:
    times, duration = constant_rate(frames, fps)
    chosen = choose_frames(times, duration, SamplingConfig(frames=wanted, frames_fixed=True))
    assert len(chosen) == min(wanted, frames)
    steps = np.diff(chosen)
    step = frames / len(chosen)
    assert np.all(np.abs(steps - step) <= 1.01)
    assert chosen[0] <= step / 2 + 1
    assert chosen[-1] >= frames - step / 2 - 2


@given(timelines(), st.lists(st.floats(0, 100), max_size=50).map(sorted))
def test_nearest_frames_are_nearest(timeline: tuple[np.ndarray, float], wanted: list[float]) -> None:
    times, _ = timeline
    found = nearest_frames(times, wanted)
    assert len(found) == len(wanted)
    assert np.all(np.diff(found) >= 0)
    for place, time in zip(found, wanted, strict=True):
        assert abs(times[place] - time) == pytest.approx(np.abs(times - time).min())


@pytest.mark.parametrize(
    ("seconds", "samples"),
    [(1, 30), (2, 32), (10, 32), (32, 32), (33, 33), (60, 60), (7200, 7200)],
)
def test_default_is_32_frames_of_a_short_clip_and_one_a_second_of_a_long_one(seconds: int, samples: int) -> None:
    times, duration = constant_rate(30 * seconds, 30)
    assert len(choose_frames(times, duration, SamplingConfig())) == samples


def test_one_frame_a_second_is_taken_from_the_middle_of_each_second() -> None:
    times, duration = constant_rate(300, 30)
    chosen = choose_frames(times, duration, SamplingConfig(fps=Fraction(1)))
    assert times[chosen] == pytest.approx(np.arange(10) + 0.5)


@pytest.mark.parametrize("rate", [30, 60, 1000])
def test_sampling_at_or_above_the_frame_rate_takes_every_frame(rate: int) -> None:
    times, duration = constant_rate(301, 30)
    assert list(choose_frames(times, duration, SamplingConfig(fps=Fraction(rate)))) == list(range(301))


def test_start_and_end_bound_the_samples() -> None:
    times, duration = constant_rate(300, 30)
    chosen = choose_frames(times, duration, SamplingConfig(fps=Fraction(2), start_s=2.0, end_s=5.0))
    assert len(chosen) == 6
    assert times[chosen].min() >= 2.0
    assert times[chosen].max() < 5.0


def test_a_rate_that_changes_is_sampled_evenly_in_time_not_in_frames() -> None:
    # 4 s at 10 frames a second, then 4 s at 100.
    times = np.concatenate((np.arange(40) / 10, 4 + np.arange(400) / 100))
    chosen = times[choose_frames(times, 8.0, SamplingConfig(frames=16, frames_fixed=True))]
    assert np.sum(chosen < 4) == 8


@pytest.mark.parametrize("gap_s", [60.0, 11 * 86400.0])
def test_a_gap_in_the_timestamps_does_not_eat_the_samples(gap_s: float) -> None:
    times = np.concatenate((np.arange(100) / 25, gap_s + np.arange(100) / 25))
    chosen = choose_frames(times, float(times[-1]) + 0.04, SamplingConfig())
    assert len(chosen) >= 24
    assert np.sum(chosen < 100) >= 10
    assert np.sum(chosen >= 100) >= 10


def test_a_slide_show_gives_every_picture() -> None:
    times = np.arange(5) * 60.0
    assert list(choose_frames(times, 300.0, SamplingConfig())) == [0, 1, 2, 3, 4]
