"""Cache of decoded crops for one training: decoding a PNG takes longer than all augmentation of its pixels.

The pixels lie in a temporary file without a name, which the system removes however the training ends, and caches in
memory as far as memory is free.
"""

from __future__ import annotations

import logging
import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.training.crops.manifest import read_crop, recorded_size
from torchfakes_cli.training.fit.processes import processes_here

logger = logging.getLogger(__name__)

#: Largest size of the file in bytes …
MAX_ROOM = 32 << 30
#: … and the share of the disk's free space that it may take, over all processes of a machine.
FREE_SHARE = 0.25


class DecodedCache:
    """Reads crops, and keeps their pixels as far as there is room.

    Threads and forked processes share it; a spawned process decodes each time. The file lies in ``TMPDIR``.

    Args:
        folder: folder of the manifest.
        names: paths of the crops below it.
        order: rows of ``names`` in the order in which they get room.
    """

    def __init__(self, folder: Path, names: Sequence[str], order: Sequence[int]) -> None:
        self._folder, self._names = folder, names
        self._largest = recorded_size(folder)
        self._file: IO[bytes] | None = None
        places = 0
        if hasattr(os, "preadv"):  # not on Windows
            room = min(MAX_ROOM, FREE_SHARE * shutil.disk_usage(tempfile.gettempdir()).free) / processes_here()
            places = min(len(names), int(room) // self._bytes)
            self._file = tempfile.TemporaryFile(prefix="torchfakes-crops-")  # noqa: SIM115 - open as long as this object
            weakref.finalize(self, self._file.close)
        self._places = dict(zip(order[:places], range(places), strict=True))
        # Side of the crop that is kept in each place, 0 for none yet; in memory that forked processes share.
        self._sides = np.frombuffer(mmap.mmap(-1, max(2, 2 * places)), np.uint16)

    @property
    def _bytes(self) -> int:
        return 3 * self._largest**2

    def __getstate__(self) -> dict[str, object]:
        """The state of a spawned process, which can't reach the file."""
        return self.__dict__ | {"_file": None, "_places": {}, "_sides": None}

    def read(self, row: int) -> NDArray[np.uint8]:
        """Return the crop of a row, S×S×3 uint8 RGB, for the caller to change.

        Raises:
            DataError: it can't be read or isn't square.
        """
        place = self._places.get(row)
        if place is None or self._file is None:
            return read_crop(self._folder / self._names[row])
        if side := int(self._sides[place]):
            pixels = np.empty((side, side, 3), np.uint8)
            if os.preadv(self._file.fileno(), [pixels.data], place * self._bytes) == pixels.nbytes:
                return pixels
        pixels = read_crop(self._folder / self._names[row])
        if pixels.shape[0] <= self._largest:
            try:
                if os.pwrite(self._file.fileno(), pixels.data, place * self._bytes) == pixels.nbytes:
                    # Last, so that no process reads half a crop.
                    self._sides[place] = pixels.shape[0]
            except OSError as error:  # the disk is full
                logger.debug("no more crops are kept: %s", error)
                self._places = {other: at for other, at in self._places.items() if self._sides[at]}
        return pixels
