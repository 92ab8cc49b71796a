"""The text of an answer, for any number of readers at different positions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from turnstream.core.blocks import Block
from turnstream.errors import CANNOT_CONTINUE, StreamBroken

MOST_PARTS = 4096
"""Parts that are kept separate before they are joined. Each has a small cost of its own."""


class TextLog:
    """The text of an answer. For readers, it only grows.

    A restarted answer retracts text. The text that a reader had must then come again, character by character,
    before any new text. Text that the provider withdraws does not come again: readers that had it get an
    error.
    """

    def __init__(self) -> None:
        self.length = 0
        self._parts: list[str] = []
        self._starts: list[int] = []
        self._joined = 0
        """Number of parts, at the beginning of the list, that were joined from smaller ones."""
        self._blocks: list[tuple[int, int]] = []
        self._read = 0
        self._repeat = ""
        self._repeated = 0
        """Characters of `_repeat` that have come again."""
        self.withdrawals: list[int] = []
        """Positions from which the provider withdrew text, one for each withdrawal."""

    @property
    def repeats(self) -> bool:
        """True if text that was read must come again. Until then `append` and `end` may raise."""
        return bool(self._repeat)

    def begin_block(self, index: int) -> None:
        """Begin block `index`. The next text belongs to it."""
        self._blocks.append((index, self.length))

    def append(self, text: str) -> None:
        """Append text.

        Raises StreamBroken (`cannot_continue`) if it does not repeat the text that was read.
        """
        if self._repeat:
            self._check(text)
        if len(self._parts) - self._joined >= MOST_PARTS:
            self._join()
        self._parts.append(text)
        self._starts.append(self.length)
        self.length += len(text)

    def _join(self) -> None:
        """Join the small parts into one. Each text is copied only once."""
        start = self._joined
        self._parts[start:] = ["".join(self._parts[start:])]
        del self._starts[start + 1 :]
        self._joined += 1

    def retract(self, index: int, *, is_withdrawal: bool = False) -> None:
        """Retract the text of the blocks from `index` on. A withdrawal needs no repetition."""
        place = next((start for block, start in self._blocks if block >= index), self.length)
        kept = self._slice(0, place)
        if is_withdrawal:
            self.withdrawals.append(place)
            self._read = min(self._read, place)
            self._repeat, self._repeated = "", 0
        elif self._read > place:
            left = self._slice(place, self.length) + self._repeat[self._repeated :]
            self._repeat, self._repeated = left[: self._read - place], 0
        self._blocks = [(block, start) for block, start in self._blocks if block < index]
        self._parts, self._starts = ([kept], [0]) if kept else ([], [])
        self._joined = len(self._parts)
        self.length = place

    def read(self, position: int) -> str:
        """Return the text after `position`, and count it as read."""
        if position >= self.length:
            return ""
        self._read = max(self._read, self.length)
        return self._slice(position, self.length)

    @property
    def read_text(self) -> str:
        """The text that readers have, including retracted text that must come again."""
        return self._slice(0, min(self._read, self.length)) + self._repeat[self._repeated :]

    def end(self) -> None:
        """End a complete answer. Raises StreamBroken if it is shorter than the text that was read."""
        if self._repeat:
            raise _changed()

    def _slice(self, start: int, end: int) -> str:
        if start >= end:
            return ""
        first = bisect_right(self._starts, start) - 1
        parts = (
            self._parts[first:]
            if end == self.length
            else self._parts[first : bisect_right(self._starts, end)]
        )
        text = parts[0] if len(parts) == 1 else "".join(parts)
        begin = self._starts[first]
        return text if begin == start and len(text) == end - start else text[start - begin : end - begin]

    def _check(self, text: str) -> None:
        repeat, place = self._repeat, self._repeated
        end = min(place + len(text), len(repeat))
        if text[: end - place] != repeat[place:end]:
            raise _changed()
        self._repeated = end
        if end == len(repeat):
            self._repeat, self._repeated = "", 0


def _changed() -> StreamBroken:
    return StreamBroken(
        "the answer was started again, and is not the one whose beginning was read",
        code=CANNOT_CONTINUE,
        retryable=False,
    )


def blocks_of_text(blocks: Sequence[Block], text: str) -> tuple[Block, ...]:
    """Return the blocks whose texts add up to `text`, a prefix of all their text.

    The last block may be cut.
    """
    kept: list[Block] = []
    left = len(text)
    for block in blocks:
        if block.block_type != "text":
            kept.append(block)
            continue
        said = block.text_content or ""
        if len(said) <= left:
            kept.append(block)
            left -= len(said)
            continue
        if left:
            kept.append(msgspec.structs.replace(block, text_content=said[:left], partial=True))
        break
    return tuple(kept)
