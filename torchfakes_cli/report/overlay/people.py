"""What is said of a person in a clip: a word, a colour and a kind of line, so that no colour speaks alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: Red, green and blue, 0 to 255.
Colour = tuple[int, int, int]

INK: Colour = (16, 16, 16)
PAPER: Colour = (245, 245, 245)
FAINT: Colour = (165, 165, 165)


class Word(StrEnum):
    """What a person's score means."""

    FAKE = "fake"
    REAL = "real"
    BETWEEN = "inconclusive"
    TOO_FEW = "too few faces"
    UNSCORED = "no score"

    @property
    def colour(self) -> Colour:
        """From Okabe and Ito's palette (*Color Universal Design*), told apart with any kind of colour vision."""
        return _COLOURS[self]

    @property
    def weight(self) -> float:
        """Thickness of the line around a face, as a factor."""
        return 1.6 if self is Word.FAKE else 1.0


_COLOURS: dict[Word, Colour] = {
    Word.FAKE: (213, 94, 0),
    Word.REAL: (86, 180, 233),
    Word.BETWEEN: (240, 228, 66),
    Word.TOO_FEW: (200, 200, 200),
    Word.UNSCORED: (150, 150, 150),
}


@dataclass(frozen=True, slots=True)
class Person:
    """A track, and what its score means.

    Attributes:
        number: of the track.
        word: what is said of it.
        p_fake: of the track; None where none of its faces was scored.
    """

    number: int
    word: Word
    p_fake: float | None

    @property
    def label(self) -> str:
        """Such as ``#1 fake 0.93``."""
        score = "" if self.p_fake is None else f" {self.p_fake:.2f}"
        return f"#{self.number} {self.word.value}{score}"
