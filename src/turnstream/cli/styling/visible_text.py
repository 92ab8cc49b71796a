"""Text of models and tools, made harmless for a terminal."""

from __future__ import annotations

_KEPT = "\n\t"
_BIDIRECTIONAL = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_INVISIBLE = (0x00AD, 0x180E, 0x200B, *range(0x2060, 0x2065), 0xFEFF, *range(0xFFF9, 0xFFFC))
_LINE_BREAKS = (0x0085, 0x2028, 0x2029)
_TAGS = range(0xE0000, 0xE0080)
"""Tag characters are invisible, and can hold a hidden text. The flags of three countries need them."""
_VISIBLE: dict[int, int | None] = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in _KEPT},
    ord("\r"): None,
    **dict.fromkeys((*range(0x7F, 0xA0), *_BIDIRECTIONAL, *_INVISIBLE, *_LINE_BREAKS, *_TAGS), 0xFFFD),
    **dict.fromkeys(range(0xD800, 0xE000), 0xFFFD),
}


def visible(text: str) -> str:
    """Return text with visible characters in place of those that control a terminal or the reading direction.

    Escape sequences (ANSI, OSC 52), other control characters, bidirectional controls, invisible characters
    and lone surrogates are replaced. Letters of all scripts and joined emoji stay as they are.
    """
    return text.translate(_VISIBLE)
