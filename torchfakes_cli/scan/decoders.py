"""Pool of decoding processes."""

from __future__ import annotations

from torchfakes_cli.scan.config import ScanConfig
from torchfakes_cli.video.isolation.client import IsolatedDecoder


class Decoders:
    """Pool of decoding processes, each started when first needed and reused from video to video.

    Args:
        config: limits on time and memory.
        count: largest number of processes at a time.
    """

    def __init__(self, config: ScanConfig, count: int) -> None:
        self._config = config
        self._count = count
        self._free: list[IsolatedDecoder] = []
        self._used: list[IsolatedDecoder] = []

    def _new(self) -> IsolatedDecoder:
        limits = self._config
        return IsolatedDecoder(timeout_s=limits.timeout_s, memory_mb=limits.memory_mb, hwaccel=limits.hwaccel)

    def start(self) -> None:
        """Start the first process, without waiting until it is ready.

        Raises:
            TorchfakesError: the process can't be started.
        """
        if not self._free and not self._used:
            self._free.append(self._new())
            self._free[0].start()

    @property
    def some_free(self) -> bool:
        """True if ``take`` would return a decoder."""
        return bool(self._free) or len(self._used) < self._count

    def take(self) -> IsolatedDecoder | None:
        """Return an idle decoder, to be given back; None while all are in use."""
        if self._free:
            self._used.append(self._free.pop())
        elif len(self._used) < self._count:
            self._used.append(self._new())
        else:
            return None
        return self._used[-1]

    def give_back(self, decoder: IsolatedDecoder) -> None:
        """Return a decoder to the pool."""
        self._used.remove(decoder)
        if not decoder.abandoned:
            self._free.append(decoder)

    def close(self) -> None:
        """End all processes; decoders taken afterwards start new ones."""
        for decoder in [*self._free, *self._used]:
            decoder.close()
