"""The text of a block that is still growing, as part of an encoder's immutable state."""

from __future__ import annotations


class TextChain:
    """A text in pieces. Adding a piece makes a new chain that shares the earlier pieces.

    Chains compare by identity: the comparison of two states costs the same however long their texts are.

    Attributes:
        piece: The last piece.
        before: The chain of the earlier pieces, or None.
    """

    __slots__ = ("before", "piece")

    def __init__(self, piece: str, before: TextChain | None = None) -> None:
        self.piece = piece
        self.before = before

    def plus(self, piece: str) -> TextChain:
        """Return the chain with one more piece."""
        return TextChain(piece, self)

    def text(self) -> str:
        """Return the whole text."""
        pieces: list[str] = []
        chain: TextChain | None = self
        while chain is not None:
            pieces.append(chain.piece)
            chain = chain.before
        pieces.reverse()
        return "".join(pieces)
