"""Text of unknown origin (file names, metadata), made harmless for whoever shows it."""

from __future__ import annotations

import re
import unicodedata

# Marks that reorder what stands around them: a name could pose as another one.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

_ESCAPE = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]")


def safe(text: str) -> str:
    r"""The text on one line, without anything that steers a terminal or reorders it; undecodable bytes as ``\xNN``.

    Example:
        >>> safe("a\x1b[31m\u202eb\nc")
        'ab c'
    """
    return "".join(_safe_character(character) for character in _ESCAPE.sub("", text))


def _safe_character(character: str) -> str:
    if character in "\t\n\r\u2028\u2029":
        return " "
    category = unicodedata.category(character)
    if category == "Cs":
        code = ord(character)
        return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
    return "" if category == "Cc" or character in _BIDI else character
