"""Frame sampling: selects frames by presentation time and key frames, independently of any decoder.

The time span is divided into equal intervals, and the frame on screen at the center of each is selected. A frame that
stays on screen for long counts for at most one interval, so that neither a freeze nor a broken timestamp takes samples
from the moving parts.

Most frames depend on others, back to a key frame, which is decoded alone. So a key frame within a quarter of an
interval of the wanted time is preferred, and a long series of samples may move off the centers together if that hits
many more key frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from torchfakes_cli.video.options import SamplingConfig

#: Maximum seconds that one still frame counts when samples are spread, unless the sampling interval is longer.
_LONGEST_STILL_S = 1.0

#: Resolution of printed times in seconds.
_PRINTED_S = 0.001

#: Maximum distance of a key frame from the wanted time, as a share of an interval.
_KEY_REACH = 0.25

#: With fewer frames per interval than this, most of them are decoded anyway and key frames save nothing.
_FEWEST_FRAMES = 4

#: Possible positions of a sample within its interval, best first; with the reach of key frames they cover all of it.
_PHASES = (0.5, 0.375, 0.625, 0.25, 0.75, 0.125, 0.875)

#: Minimum number of samples that may move off the centers; with fewer, the gaps at both ends would be noticeable.
_FEWEST_SAMPLES = 32

#: Samples move off the centers only if this leaves at most this share of the frames to decode.
_WORTH_MOVING = 0.9


def choose_frames(
    times_s: NDArray[np.float64],
    duration_s: float,
    sampling: SamplingConfig,
    after_key: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Select the frames to decode.

    Args:
        times_s: presentation times of all frames in seconds, increasing, shape (N,).
        duration_s: time at which the last frame leaves the screen.
        sampling: sampling options.
        after_key: number of packets between each frame and its key frame, shape (N,); None if all frames cost the same.

    Returns:
        Increasing indices into ``times_s``; empty only if no frame begins in the selected time span.
    """
    end_s = duration_s if sampling.end_s is None else min(sampling.end_s, duration_s)
    first, last = span_of(times_s, sampling)
    if first >= last:
        return np.empty(0, dtype=np.int64)
    longest_still = _LONGEST_STILL_S if sampling.fps is None else max(_LONGEST_STILL_S, float(1 / sampling.fps))
    on_screen = np.diff(np.append(times_s[first:last], max(end_s, times_s[last - 1])))
    shown_s = np.minimum(on_screen, longest_still)
    ends = np.cumsum(shown_s)
    count = min(_wanted_count(float(ends[-1]), sampling), last - first)
    if ends[-1] <= 0 or count == last - first:
        return first + _evenly(last - first, count)
    if after_key is None or not sampling.key_frames or count * _FEWEST_FRAMES > last - first:
        return first + np.unique(_on_screen(ends, _wanted(ends, count, _PHASES[0])))
    return first + _easiest(ends - shown_s, ends, count, after_key[first:last])


def span_of(times_s: NDArray[np.float64], sampling: SamplingConfig) -> tuple[int, int]:
    """Return the index of the first frame in the selected time span and of the first frame after it.

    Times are compared in milliseconds, as they are printed, so that a printed time selects its frame again.
    """
    end_s = np.inf if sampling.end_s is None else sampling.end_s
    first, last = np.searchsorted(times_s + _PRINTED_S / 2, (sampling.start_s, end_s))
    return int(first), int(last)


def nearest_frames(times_s: NDArray[np.float64], wanted_s: Sequence[float] | NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the index of the frame nearest to each wanted time; both times are increasing."""
    wanted = np.maximum.accumulate(np.asarray(wanted_s, dtype=np.float64))
    after = np.clip(np.searchsorted(times_s, wanted), 0, len(times_s) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(wanted - times_s[before] <= times_s[after] - wanted, before, after).astype(np.int64)


def _wanted_count(shown_s: float, sampling: SamplingConfig) -> int:
    """Return the number of samples for ``shown_s`` seconds, not yet limited by the number of frames."""
    if sampling.fps is not None:
        return max(1, round(shown_s * float(sampling.fps)))
    return sampling.frames if sampling.frames_fixed else max(sampling.frames, round(shown_s))


def _wanted(ends: NDArray[np.float64], count: int, phase: float) -> NDArray[np.float64]:
    return (np.arange(count, dtype=np.float64) + phase) * np.float64(ends[-1] / count)


def _on_screen(ends: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the frame on screen at each wanted time."""
    return np.minimum(np.searchsorted(ends, wanted, side="right"), len(ends) - 1).astype(np.int64)


def _easiest(
    starts: NDArray[np.float64], ends: NDArray[np.float64], count: int, after_key: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Select samples that prefer nearby key frames, at the phase with the fewest frames to decode."""
    keys = np.flatnonzero(after_key == 0)
    reach = _KEY_REACH * ends[-1] / count
    choices: list[tuple[float, NDArray[np.int64]]] = []
    for phase in _PHASES if count >= _FEWEST_SAMPLES else _PHASES[:1]:
        wanted = _wanted(ends, count, phase)
        chosen = _on_screen(ends, wanted)
        if len(keys):
            near = keys[nearest_frames(starts[keys], wanted)]
            chosen = np.where(np.abs(starts[near] - wanted) <= reach, near, chosen)
        chosen = np.unique(chosen)
        needed = _frames_needed(chosen, after_key)
        choices.append((needed if choices else needed * _WORTH_MOVING, chosen))
    return min(choices, key=lambda choice: choice[0])[1]


def _frames_needed(chosen: NDArray[np.int64], after_key: NDArray[np.int64]) -> int:
    """Count the frames to decode: for each key frame, all frames up to the last selected one that depends on it."""
    keys_passed = np.cumsum(after_key == 0)[chosen]
    groups = np.flatnonzero(np.diff(keys_passed, prepend=-1))
    return int(np.maximum.reduceat(after_key[chosen] + 1, groups).sum())


def _evenly(frames: int, count: int) -> NDArray[np.int64]:
    """Spread ``count`` indices evenly over ``frames``, at the centers of equal parts."""
    return ((2 * np.arange(count, dtype=np.int64) + 1) * frames) // (2 * count)
