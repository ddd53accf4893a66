from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchfakes_cli.video.options import SamplingConfig
from torchfakes_cli.video.sampling import choose_frames, nearest_frames


def constant_rate(frames: int, fps: float) -> tuple[np.ndarray, float]:
    return np.arange(frames) / fps, frames / fps


@st.composite
def timelines(draw: st.DrawFn) -> tuple[np.ndarray, float]:
    """Draws increasing frame times with gaps from a millisecond to days, and the end of the last frame."""
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


def after_key(frames: int, gop: int, first: int = 0) -> np.ndarray:
    """Returns the distance of each frame from its key frame, with one every ``gop`` frames."""
    return (np.arange(frames) + first) % gop


def decoded(chosen: np.ndarray, behind: np.ndarray) -> int:
    """Counts the frames to decode for the chosen ones, one by one."""
    return len({frame for place in chosen for frame in range(place - behind[place], place + 1)})


@given(timelines(), samplings(), st.none() | st.integers(1, 60), st.integers(0, 59))
def test_chosen_frames_are_ordered_and_in_the_span(
    timeline: tuple[np.ndarray, float], sampling: SamplingConfig, gop: int | None, first: int
) -> None:
    times, duration = timeline
    chosen = choose_frames(times, duration, sampling, None if gop is None else after_key(len(times), gop, first))
    shown = times + 0.0005  # the start and the end are taken to the millisecond, as times are printed
    inside = (shown >= sampling.start_s) & (shown < (np.inf if sampling.end_s is None else sampling.end_s))
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


@given(
    frames=st.integers(100, 3000),
    fps=st.sampled_from([10.0, 23.976, 25.0, 29.97, 30.0, 60.0]),
    gop=st.integers(1, 300),
    first=st.integers(0, 299),
    wanted=st.integers(1, 100),
)
def test_key_frames_save_decoding_and_leave_the_samples_spread(
    frames: int, fps: float, gop: int, first: int, wanted: int
) -> None:
    times, duration = constant_rate(frames, fps)
    behind = after_key(frames, gop, first)
    even = SamplingConfig(frames=wanted, frames_fixed=True, key_frames=False)
    plain = choose_frames(times, duration, even, behind)
    chosen = choose_frames(times, duration, replace(even, key_frames=True), behind)
    assert len(chosen) == len(plain) == min(wanted, frames)
    step = frames / len(chosen)
    gaps = np.diff(chosen)
    assert np.all((gaps >= step / 2 - 1.01) & (gaps <= 1.5 * step + 1.01))
    assert chosen[0] <= 1.13 * step + 1
    assert chosen[-1] >= frames - 1.13 * step - 2
    assert decoded(chosen, behind) <= decoded(plain, behind) + len(chosen)


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
def test_default_sampling(seconds: int, samples: int) -> None:
    times, duration = constant_rate(30 * seconds, 30)
    assert len(choose_frames(times, duration, SamplingConfig())) == samples


def test_one_frame_a_second_is_centered() -> None:
    times, duration = constant_rate(300, 30)
    chosen = choose_frames(times, duration, SamplingConfig(fps=Fraction(1)))
    assert times[chosen] == pytest.approx(np.arange(10) + 0.5)


@pytest.mark.parametrize(("gop", "share"), [(30, 0.07), (60, 0.55), (120, 0.8), (250, 0.97)])
def test_what_key_frames_save_at_one_frame_a_second(gop: int, share: float) -> None:
    times, duration = constant_rate(3600, 30)
    behind = after_key(3600, gop)
    plain, chosen = (
        choose_frames(times, duration, SamplingConfig(fps=Fraction(1), key_frames=wanted), behind)
        for wanted in (False, True)
    )
    assert len(chosen) == 120
    assert decoded(chosen, behind) <= share * decoded(plain, behind)


def test_key_frame_reach() -> None:
    times, duration = constant_rate(300, 30)
    behind = np.arange(300) - np.repeat([0, 37, 83], [37, 46, 217])
    chosen = choose_frames(times, duration, SamplingConfig(fps=Fraction(1)), behind)
    # Wanted are 15, 45, 75 and so on: 7 frames are near, 8 are not.
    assert list(chosen[:4]) == [15, 45, 75, 105]
    behind = np.arange(300) - np.repeat([0, 38, 82], [38, 44, 218])
    chosen = choose_frames(times, duration, SamplingConfig(fps=Fraction(1)), behind)
    assert list(chosen[:4]) == [15, 38, 82, 105]
    assert list(choose_frames(times, duration, SamplingConfig(fps=Fraction(1), key_frames=False), behind)[1:3]) == [
        45,
        75,
    ]


def test_few_samples_stay_at_their_centers_between_key_frames() -> None:
    times, duration = constant_rate(300, 30)
    behind = after_key(300, 30)
    chosen = choose_frames(times, duration, SamplingConfig(frames=10, frames_fixed=True), behind)
    assert times[chosen] == pytest.approx(np.arange(10) + 0.5)


@pytest.mark.parametrize("rate", [30, 60, 1000])
def test_high_sampling_rate_takes_every_frame(rate: int) -> None:
    times, duration = constant_rate(301, 30)
    assert list(choose_frames(times, duration, SamplingConfig(fps=Fraction(rate)))) == list(range(301))


def test_start_and_end_bound_the_samples() -> None:
    times, duration = constant_rate(300, 30)
    chosen = choose_frames(times, duration, SamplingConfig(fps=Fraction(2), start_s=2.0, end_s=5.0))
    assert len(chosen) == 6
    assert times[chosen].min() >= 2.0
    assert times[chosen].max() < 5.0


def test_variable_rate_is_sampled_evenly_in_time() -> None:
    # 4 s at 10 frames a second, then 4 s at 100.
    times = np.concatenate((np.arange(40) / 10, 4 + np.arange(400) / 100))
    chosen = times[choose_frames(times, 8.0, SamplingConfig(frames=16, frames_fixed=True))]
    assert np.sum(chosen < 4) == 8


@pytest.mark.parametrize("gap_s", [60.0, 11 * 86400.0])
def test_timestamp_gap_takes_few_samples(gap_s: float) -> None:
    times = np.concatenate((np.arange(100) / 25, gap_s + np.arange(100) / 25))
    chosen = choose_frames(times, float(times[-1]) + 0.04, SamplingConfig())
    assert len(chosen) >= 24
    assert np.sum(chosen < 100) >= 10
    assert np.sum(chosen >= 100) >= 10


def test_a_slide_show_gives_every_picture() -> None:
    times = np.arange(5) * 60.0
    assert list(choose_frames(times, 300.0, SamplingConfig())) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("frame", [0, 1, 89, 280, 281])
def test_a_printed_time_finds_its_frame_again(frame: int) -> None:
    """9.36667 is printed as 9.367."""
    times, duration = constant_rate(300, 30)
    printed = float(f"{times[frame]:.3f}")
    assert choose_frames(times, duration, SamplingConfig(fps=Fraction(1000), start_s=printed))[0] == frame
    if frame:
        before = SamplingConfig(fps=Fraction(1000), end_s=printed)
        assert choose_frames(times, duration, before)[-1] == frame - 1
