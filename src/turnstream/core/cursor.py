"""Cursors: where a watcher is in a turn, `generation-seq`."""

from __future__ import annotations

import re
from typing import NamedTuple
from uuid import UUID
from zlib import crc32

SEQ_STRIDE = 1 << 20
"""A new generation starts at the next multiple of this, so numbers of a lost one are never given again."""

_PATTERN = re.compile(r"(0|[1-9][0-9]{0,11})-(0|[1-9][0-9]{0,15})", re.ASCII)


class Cursor(NamedTuple):
    """The number of a turn's event. Within a turn `seq` alone is ordered; `generation` tells who gave it."""

    generation: int
    seq: int

    def __str__(self) -> str:
        return f"{self.generation}-{self.seq}"


def parse_cursor(text: str) -> Cursor | None:
    """The cursor that `text` names, or None where it is not one."""
    match = _PATTERN.fullmatch(text)
    return Cursor(int(match[1]), int(match[2])) if match else None


def first_generation(turn_id: str) -> int:
    """A turn's first generation: a 31-bit hash of its id, so that another turn's cursor shows as foreign."""
    return crc32(UUID(turn_id).bytes) & 0x7FFFFFFF


def next_generation_seq(last_seq: int) -> int:
    """The first seq of a takeover: above everything the lost executor can have shown."""
    return (last_seq // SEQ_STRIDE + 1) * SEQ_STRIDE
