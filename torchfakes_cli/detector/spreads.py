"""What each kind's own covariance adds to a discriminant that has one covariance for all kinds (see ``texture``)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torchfakes_cli.detector.threads import products


@dataclass(frozen=True, slots=True, eq=False)
class Spreads:
    """In which directions videos of one kind differ from each other more than videos do in general.

    A face that lies far from a kind's centre in such a direction speaks less against that kind.

    Attributes:
        directions: R×D float32; half the square of the way along one is what it adds to a log-likelihood.
        centres: K×R float32, where the centre of each kind lies along them, from the mean real face.
        owned: K×R, 1 where a direction is one of that kind's, else 0.
    """

    directions: NDArray[np.float32]
    centres: NDArray[np.float32]
    owned: NDArray[np.float32]

    @staticmethod
    def none(kinds: int, length: int) -> Spreads:
        """No kind has any."""
        return Spreads(
            np.zeros((0, length), np.float32), np.zeros((kinds, 0), np.float32), np.zeros((kinds, 0), np.float32)
        )

    def fits(self, kinds: int, length: int) -> bool:
        """Whether the parts fit one another and so many kinds and values."""
        of_kinds = (kinds, len(self.directions)) if self.directions.ndim == 2 else ()
        return self.directions.shape[1:] == (length,) and self.centres.shape == self.owned.shape == of_kinds

    def likelier(self, beyond: NDArray[np.float32]) -> NDArray[np.float32]:
        """What they add to each kind's log-likelihood.

        Args:
            beyond: N×D, what was described less the mean real face.

        Returns:
            N×K float32.
        """
        along = products(beyond, self.directions)
        own_centres = self.centres * self.owned
        squares = products(np.square(along), self.owned) - 2 * products(along, own_centres)
        return np.asarray((squares + (own_centres * self.centres).sum(1)) / 2, np.float32)

    def slopes(self, beyond: NDArray[np.float32]) -> NDArray[np.float32]:
        """What they add to each kind for each step from the mean real face, exact over the whole way.

        Args:
            beyond: D, as for ``likelier``.

        Returns:
            K×D float32. A square grows over a way by the way times its slope in the middle.
        """
        middle = products(beyond[None], self.directions) / 2
        return products((middle - self.centres) * self.owned, self.directions.T)
