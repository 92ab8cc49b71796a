"""Text from a model, a tool or another program, made safe for a terminal."""

from __future__ import annotations

_REPLACEMENT = 0xFFFD

_BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Characters that change the direction of text, and so the order in which a line is read."""
_INVISIBLE = (0x00AD, 0x180E, 0x200B, *range(0x2060, 0x2065), 0xFEFF, *range(0xFFF9, 0xFFFC))
_LINE_BREAKS = (0x2028, 0x2029)
_TAGS = range(0xE0000, 0xE0080)
"""Tag characters are invisible, and can hold a hidden text. The flags of three countries need them."""

_PICTURES: dict[int, int | None] = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t\r"},
    **dict.fromkeys(range(0x7F, 0xA0), _REPLACEMENT),
    **dict.fromkeys(range(0xD800, 0xE000), _REPLACEMENT),
    **dict.fromkeys((*_BIDI, *_INVISIBLE, *_LINE_BREAKS, *_TAGS), _REPLACEMENT),
    ord("\r"): None,
}
"""Visible replacements of characters that could control a terminal or hide text."""


def printable(text: str) -> str:
    """Return `text` with visible characters in place of those that a terminal would obey.

    These are control characters (of escape sequences such as ANSI and OSC 52), marks of writing direction,
    invisible characters, and halves of surrogate pairs. Letters of all scripts and joined emoji stay. Line
    feeds and tabs stay, and carriage returns are dropped. Each character is replaced by itself, so the result
    does not depend on how a text is split.
    """
    return text if text.isascii() and text.isprintable() else text.translate(_PICTURES)


def printable_line(text: str, limit: int = 200) -> str:
    """Return the beginning of `text` as one line of at most `limit` characters, made safe."""
    line = " ".join(printable(text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
