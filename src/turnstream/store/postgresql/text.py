"""Text in PostgreSQL, which cannot store U+0000.

U+001A (substitute) begins an escape: U+001A 0 means U+0000, and U+001A 1 means U+001A. Other text is
stored as it is. JSON never has U+0000: its encoder escapes it.
"""

from __future__ import annotations

from psycopg import Connection
from psycopg.abc import Buffer
from psycopg.types.string import StrDumperUnknown, TextLoader

_MARK = "\x1a"
_KINDS = ("text", "varchar")


def escape(text: str) -> str:
    """Return the text as it is stored."""
    if "\x00" not in text and _MARK not in text:
        return text
    return text.replace(_MARK, _MARK + "1").replace("\x00", _MARK + "0")


def unescape(stored: str) -> str:
    """Return the text of a stored one. The inverse of `escape`."""
    if _MARK not in stored:
        return stored
    return stored.replace(_MARK + "0", "\x00").replace(_MARK + "1", _MARK)


class EscapedText(StrDumperUnknown):
    """Sends text."""

    def dump(self, obj: str) -> Buffer | None:
        return super().dump(escape(obj))


class UnescapedText(TextLoader):
    """Receives text."""

    def load(self, data: Buffer) -> str:
        return unescape(str(data, "utf-8"))


def adapt_text(connection: Connection[object]) -> None:
    """Let a connection escape the text that it sends, and unescape the text that it receives."""
    connection.adapters.register_dumper(str, EscapedText)
    for kind in _KINDS:
        connection.adapters.register_loader(kind, UnescapedText)
