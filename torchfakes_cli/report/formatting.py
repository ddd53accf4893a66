"""Text formatting: scores, times, and untrusted text that is safe to show."""

from __future__ import annotations

import re
import unicodedata

from torchfakes_cli.records import VideoInfo

_SURROGATE = re.compile("[\ud800-\udfff]")
_TERMINAL_CONTROL = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]")
#: Marks that reorder text, with which a name could imitate another one.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def score(p_fake: float | None) -> str:
    """Format a score, such as ``0.88``; return an empty string for None."""
    return "" if p_fake is None else f"{p_fake:.2f}"


def apart(*values: float) -> list[str]:
    """Format scores with enough decimals, from two to four, to distinguish different ones.

    Example:
        >>> apart(0.3, 0.7), apart(0.9961, 0.9987, 0.99)
        (['0.30', '0.70'], ['0.996', '0.999', '0.990'])
    """
    for digits in (2, 3, 4):
        texts = [f"{value:.{digits}f}" for value in values]
        if len(set(texts)) == len(set(values)):
            return texts
    return texts


def clock(seconds: float, digits: int = 0) -> str:
    """Format a time as a player shows it, m:ss or h:mm:ss, with a number of decimals.

    Example:
        >>> clock(75.9), clock(3605), clock(75.04, 2)
        ('1:15', '1:00:05', '1:15.04')
    """
    # The small amount keeps 75.04 at 4 hundredths in spite of rounding errors.
    whole, part = divmod(int(seconds * 10**digits + 1e-6), 10**digits)
    minutes = f"{whole // 3600}:{whole // 60 % 60:02}" if whole >= 3600 else f"{whole // 60}"
    return f"{minutes}:{whole % 60:02}" + (f".{part:0{digits}}" if digits else "")


def geometry(info: VideoInfo) -> list[str]:
    """Format the known ones of size, frame rate and duration of a video."""
    facts = [f"{info.width}x{info.height}"]
    if info.fps is not None:
        facts.append(f"{float(info.fps):.4g} fps")
    if info.duration_s is not None:
        facts.append(clock(info.duration_s))
    return facts


def escape_undecodable(text: str) -> str:
    r"""Escape bytes of a file name that aren't valid UTF-8 as ``\xNN``, so that the text can be encoded.

    Example:
        >>> escape_undecodable("caf\udce9.mp4")
        'caf\\xe9.mp4'
    """
    return _SURROGATE.sub(_escape_surrogate, text)


def _escape_surrogate(match: re.Match[str]) -> str:
    code = ord(match.group())
    # Python maps the undecodable bytes 0x80…0xFF to U+DC80…U+DCFF; other lone surrogates come from Windows names.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def safe(text: str) -> str:
    r"""Put untrusted text on one line, without terminal controls and reordering; undecodable bytes become ``\xNN``.

    Example:
        >>> safe("a\x1b[31m\u202eb\nc")
        'ab c'
    """
    shown = []
    for character in _TERMINAL_CONTROL.sub("", text):
        if character in "\t\n\r\u2028\u2029":
            shown.append(" ")
        elif unicodedata.category(character) != "Cc" and character not in _BIDI:
            shown.append(character)
    return escape_undecodable("".join(shown))
