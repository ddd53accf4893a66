"""Which frames of a video are looked at, decided from their times alone; knows nothing of decoders.

The wanted span is cut into equal intervals, and the frame on screen at the centre of each is taken. A frame that stays
on screen for long counts only for the length of one interval at most, so that neither a freeze nor a broken timestamp
days away eats the samples of the moving parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from torchfakes_cli.config import SamplingConfig

#: Seconds for which one still frame counts when samples are spread, where the sampling rate doesn't ask for more.
_LONGEST_STILL_S = 1.0


def choose_frames(times_s: NDArray[np.float64], duration_s: float, sampling: SamplingConfig) -> NDArray[np.int64]:
    """Chooses the frames to look at.

    Args:
        times_s: presentation times of all frames in seconds, increasing, shape (N,).
        duration_s: when the last frame leaves the screen.
        sampling: what is wanted.

    Returns:
        Indices into ``times_s``, strictly increasing; empty only where no frame begins in the wanted span.
    """
    end_s = duration_s if sampling.end_s is None else min(sampling.end_s, duration_s)
    first = int(np.searchsorted(times_s, sampling.start_s, side="left"))
    last = int(np.searchsorted(times_s, end_s, side="left")) if sampling.end_s is not None else len(times_s)
    if first >= last:
        return np.empty(0, dtype=np.int64)
    longest_still = _LONGEST_STILL_S if sampling.fps is None else max(_LONGEST_STILL_S, float(1 / sampling.fps))
    on_screen = np.diff(np.append(times_s[first:last], max(end_s, times_s[last - 1])))
    ends = np.cumsum(np.minimum(on_screen, longest_still))
    count = min(_wanted_count(float(ends[-1]), sampling), last - first)
    if ends[-1] <= 0 or count == last - first:
        return first + _evenly(last - first, count)
    centres = (np.arange(count) + 0.5) * (ends[-1] / count)
    shown = np.minimum(np.searchsorted(ends, centres, side="right"), last - first - 1)
    return first + np.unique(shown).astype(np.int64)


def nearest_frames(times_s: NDArray[np.float64], wanted_s: Sequence[float]) -> NDArray[np.int64]:
    """Finds the frame nearest to each wanted time.

    Args:
        times_s: presentation times of all frames in seconds, increasing, shape (N,), N ≥ 1.
        wanted_s: times in seconds, increasing.

    Returns:
        One index into ``times_s`` for each wanted time, shape (len(wanted_s),); never decreasing.
    """
    wanted = np.maximum.accumulate(np.asarray(wanted_s, dtype=np.float64))
    after = np.clip(np.searchsorted(times_s, wanted), 0, len(times_s) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(wanted - times_s[before] <= times_s[after] - wanted, before, after).astype(np.int64)


def _wanted_count(shown_s: float, sampling: SamplingConfig) -> int:
    """How many samples a span of ``shown_s`` seconds gets, before the number of its frames limits them."""
    if sampling.fps is not None:
        return max(1, round(shown_s * float(sampling.fps)))
    if sampling.frames_fixed:
        return sampling.frames
    return max(sampling.frames, round(shown_s))


def _evenly(frames: int, count: int) -> NDArray[np.int64]:
    """Spreads ``count`` indices evenly over ``frames``, at the centres of equal parts."""
    return ((2 * np.arange(count, dtype=np.int64) + 1) * frames) // (2 * count)
