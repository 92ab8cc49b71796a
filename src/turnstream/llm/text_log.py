"""The text of an answer, for any number of readers that each stand somewhere in it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from turnstream.core.blocks import Block
from turnstream.errors import CANNOT_CONTINUE, StreamBroken

MOST_PARTS = 4096
"""Pieces that are kept apart until they are joined, each with its own small cost."""


class TextLog:
    """Text that only grows, as far as anybody has seen it.

    An answer that is started again takes text back: what a reader had of it must then come again, letter by letter, before
    anything new is given out.
    """

    def __init__(self) -> None:
        self.length = 0
        self._parts: list[str] = []
        self._starts: list[int] = []
        self._joined = 0
        """Parts that were put together from smaller ones, at the beginning of the list."""
        self._blocks: list[tuple[int, int]] = []
        self._read = 0
        self._repeat = ""
        self._repeated = 0
        """Characters of `_repeat` that have come again."""

    @property
    def repeats(self) -> bool:
        """Whether text has to come again that was read before: until then `append` and `end` may raise."""
        return bool(self._repeat)

    def begin_block(self, index: int) -> None:
        """What comes now belongs to block `index`."""
        self._blocks.append((index, self.length))

    def append(self, text: str) -> None:
        """Raises StreamBroken (`cannot_continue`) where it is not what had been read before a restart."""
        if self._repeat:
            self._check(text)
        if len(self._parts) - self._joined >= MOST_PARTS:
            self._join()
        self._parts.append(text)
        self._starts.append(self.length)
        self.length += len(text)

    def _join(self) -> None:
        """Put the small parts together into one: each text is copied once."""
        start = self._joined
        self._parts[start:] = ["".join(self._parts[start:])]
        del self._starts[start + 1 :]
        self._joined += 1

    def take_back(self, index: int) -> None:
        """The text of blocks from `index` on is no more."""
        place = next((start for block, start in self._blocks if block >= index), self.length)
        kept = self._slice(0, place)
        if self._read > place:
            left = self._slice(place, self.length) + self._repeat[self._repeated :]
            self._repeat, self._repeated = left[: self._read - place], 0
        self._blocks = [(block, start) for block, start in self._blocks if block < index]
        self._parts, self._starts = ([kept], [0]) if kept else ([], [])
        self._joined = len(self._parts)
        self.length = place

    def read(self, position: int) -> str:
        """What stands after `position`; a reader takes it."""
        if position >= self.length:
            return ""
        self._read = max(self._read, self.length)
        return self._slice(position, self.length)

    @property
    def read_text(self) -> str:
        """The text that readers have: what they took, and what of it was taken back and has to come again."""
        return self._slice(0, min(self._read, self.length)) + self._repeat[self._repeated :]

    def end(self) -> None:
        """The answer is whole. Raises StreamBroken where it is shorter than what had been read of it."""
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
    """Return the blocks whose texts are the beginning `text` of all their text. The last text is cut if it goes on."""
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
