"""Cursors: the position of a watcher in a turn, written `generation-seq`."""

from __future__ import annotations

import re
from typing import NamedTuple
from zlib import crc32

SEQ_STRIDE = 1 << 20
"""Seqs per generation: a new one starts at the next multiple, so it never reuses numbers of a lost one."""

_PATTERN = re.compile(r"(0|[1-9][0-9]{0,11})-(0|[1-9][0-9]{0,15})", re.ASCII)


class Cursor(NamedTuple):
    """A position in a turn: after the event `seq`.

    `seq` alone orders a turn's events. `generation` names the owner that gave the number.
    """

    generation: int
    seq: int

    def __str__(self) -> str:
        return f"{self.generation}-{self.seq}"


class Fence(NamedTuple):
    """A lost generation, and the last seq of that generation that survived."""

    generation: int
    seq: int


class ResetRecord(NamedTuple):
    """The event `seq` retracted the blocks from `block_index` on."""

    seq: int
    block_index: int


def parse_cursor(text: str) -> Cursor | None:
    """Return `text` as a cursor, or None if it is not one."""
    match = _PATTERN.fullmatch(text)
    return Cursor(int(match[1]), int(match[2])) if match else None


def first_generation(turn_id: str) -> int:
    """Return a turn's first generation: a 31-bit hash of its id. So another turn's cursor is detected."""
    return crc32(bytes.fromhex(turn_id.replace("-", ""))) & 0x7FFFFFFF


def next_generation_seq(last_seq: int) -> int:
    """Return the first seq of a takeover: above every seq that the lost executor can have shown."""
    return (last_seq // SEQ_STRIDE + 1) * SEQ_STRIDE
