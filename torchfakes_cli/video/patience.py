"""How long the decoding process is waited for."""

from __future__ import annotations

import math

#: Waiting is cut into such slices, to notice that it isn't wanted any more.
LOOK_UP_S = 0.1


class Patience:
    """How long a process is waited for.

    Args:
        silence_s: without a sign of progress.
        total_s: in all.

    Attributes:
        slice_s: how long to wait at once.
    """

    def __init__(self, silence_s: float, total_s: float = math.inf) -> None:
        self._silence_s = silence_s
        self._total_s = total_s
        self.slice_s = min(LOOK_UP_S, silence_s)
        self._silent_s = 0.0
        self._spent_s = 0.0

    def renew(self) -> None:
        """The wait for another message begins."""
        self._silent_s = 0.0

    def spend(self, seconds: float, *, progress: bool) -> None:
        """Some time was waited."""
        self._silent_s = 0.0 if progress else self._silent_s + seconds
        self._spent_s += seconds

    @property
    def over(self) -> str:
        """Why there is no sense in waiting any longer; empty while there is."""
        if self._silent_s >= self._silence_s:
            return f"its decoder made no progress for {self._silence_s:g} s"
        if self._spent_s >= self._total_s:
            return f"decoding it took longer than {self._total_s:.0f} s"
        return ""
