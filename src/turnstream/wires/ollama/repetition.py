"""Detects if a final line repeats the answer or continues it.

Ollama's final line has the last delta, which is almost always empty. Other servers of its protocol send the
complete message there. Text that begins with the whole earlier text counts as the complete one. Only the last
pieces of the earlier text are stored, with its length and digest, so memory does not grow with the answer.
"""

from __future__ import annotations

import hashlib

_PIECES = 64
_LONG = 1024
_ENCODING = "utf-16-le"  # the two halves of a surrogate pair, sent in two lines, give the bytes of the whole


class Repetition:
    """Detects that text of one kind, text or thinking, is sent again."""

    __slots__ = ("_digest", "_pieces", "_size")

    def __init__(self) -> None:
        self._size = 0
        self._pieces: list[str] = []
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, text: str) -> None:
        self._pieces.append(text)
        if len(self._pieces) >= _PIECES or len(text) > _LONG:  # hashing each short text separately is slow
            self._take_pieces()

    def new_in(self, text: str) -> str:
        """Return the part of a final line's `text` that is new."""
        self._take_pieces()
        data = text.encode(_ENCODING, "surrogatepass")
        if not 0 < self._size <= len(data):
            return text
        repeated = hashlib.blake2b(memoryview(data)[: self._size], digest_size=16).digest()
        return (
            data[self._size :].decode(_ENCODING, "surrogatepass")
            if repeated == self._digest.digest()
            else text
        )

    def _take_pieces(self) -> None:
        data = "".join(self._pieces).encode(_ENCODING, "surrogatepass")
        self._pieces.clear()
        self._size += len(data)
        self._digest.update(data)
