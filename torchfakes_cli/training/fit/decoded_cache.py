"""Cache of decoded crops for one training: decoding a PNG takes longer than all that training does to its pixels.

They lie in a temporary file without a name, which the system takes away however the training ends. Memory doesn't grow
with it: what the system keeps of the file in memory, it gives back when others need it.
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

import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.training.crops.manifest import read_crop, recorded_size
from torchfakes_cli.training.fit.processes import processes_here

logger = logging.getLogger(__name__)

#: Bytes that the file may take …
MAX_ROOM = 32 << 30
#: … and the share of the disk's free space.
FREE_SHARE = 0.25
#: A disk's unit: each crop begins with one.
_BLOCK = 4096


class DecodedCache:
    """Reads crops and keeps their pixels as far as there is room.

    Threads and forked processes share it; a process that was started afresh decodes each time. The file lies where
    ``TMPDIR`` says.

    Args:
        folder: the manifest's.
        names: of the crops, below it.
        order: rows of ``names``, in the order in which room is given.
    """

    def __init__(self, folder: Path, names: Sequence[str], order: Sequence[int]) -> None:
        self._folder, self._names = folder, names
        self._largest = recorded_size(folder)
        self._bytes = -(-3 * self._largest**2 // _BLOCK) * _BLOCK
        self._file = _nameless_file()
        # Room for them all would be taken by every process that torchrun started.
        places = min(len(names), _room() // self._bytes) if self._file is not None else 0
        self._places = dict(zip(order[:places], range(places), strict=True))
        # The side of the crop that is kept in each place; 0 where there is none yet.
        self._sides = np.frombuffer(mmap.mmap(-1, max(2, 2 * places)), np.uint16)
        if self._file is not None:
            weakref.finalize(self, os.close, self._file)

    def __getstate__(self) -> dict[str, object]:
        """What a process that is started afresh gets: it can't reach the file."""
        return self.__dict__ | {"_file": None, "_places": {}, "_sides": None}

    def read(self, row: int) -> NDArray[np.uint8]:
        """The crop of a row, S×S×3 uint8 RGB, for the caller to change.

        Raises:
            DataError: it can't be read or isn't square.
        """
        place = self._places.get(row)
        if place is not None and self._file is not None and (side := int(self._sides[place])):
            pixels = np.empty((side, side, 3), np.uint8)
            if os.preadv(self._file, [pixels.data], place * self._bytes) == pixels.nbytes:
                return pixels
        pixels = read_crop(self._folder / self._names[row])
        if place is not None and pixels.shape[0] <= self._largest:
            self._keep(place, pixels)
        return pixels

    def _keep(self, place: int, pixels: NDArray[np.uint8]) -> None:
        if self._file is None:
            return
        try:
            written = os.pwrite(self._file, pixels.data, place * self._bytes)
        except OSError as error:  # the disk is full by now, or may not be filled further
            logger.debug("no more crops are kept: %s", error)
            self._places = {other: at for other, at in self._places.items() if self._sides[at]}
            return
        if written == pixels.nbytes:
            # Last, so that no process reads half a crop.
            self._sides[place] = pixels.shape[0]


def _nameless_file() -> int | None:
    """Descriptor of an empty file that no name leads to; None where the system or the disk doesn't have it."""
    if not hasattr(os, "preadv"):  # Windows
        return None
    try:
        descriptor, path = tempfile.mkstemp(prefix="torchfakes-crops-")
        Path(path).unlink()
    except OSError as error:
        logger.debug("no crops are kept: %s", error)
        return None
    return descriptor


def _room() -> int:
    """Bytes that the file of this process may take; those of one machine share."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    return int(min(MAX_ROOM, FREE_SHARE * free)) // processes_here()
