"""Recognise whether a final line repeats the answer, or goes on with it.

Ollama's final line brings the last delta, nearly always an empty one; other servers of its protocol put the complete
message there. Text that begins with all that was said before is taken for the complete one. What was said is not kept,
but for its last few pieces; its length and digest are, so that memory does not grow with the answer.
"""

from __future__ import annotations

import hashlib

_PIECES = 64
_LONG = 1024
_ENCODING = "utf-16-le"  # halves of a surrogate pair, sent in two lines, are then the bytes of the whole


class Repetition:
    """Recognises one kind of text, said again."""

    __slots__ = ("_digest", "_pieces", "_size")

    def __init__(self) -> None:
        self._size = 0
        self._pieces: list[str] = []
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, text: str) -> None:
        self._pieces.append(text)
        if len(self._pieces) >= _PIECES or len(text) > _LONG:  # hashing every short text by itself is slow
            self._take_pieces()

    def new_in(self, text: str) -> str:
        """Return what the `text` of a final line adds to the text before."""
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
