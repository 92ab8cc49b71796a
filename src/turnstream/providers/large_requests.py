"""Work on a conversation that is done in a thread if the conversation is large, so that no other stream waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from turnstream.core.blocks import Block

LARGE_BLOCKS = 256
"""Blocks of a conversation above which it is large."""
LARGE_TEXT = 256 * 1024
"""Characters of a conversation above which it is large."""

Result = TypeVar("Result")


class HistoryMessage(Protocol):
    """A message, or a turn of the past."""

    @property
    def blocks(self) -> Sequence[Block]: ...


async def worked(conversation: Iterable[HistoryMessage], work: Callable[[], Result]) -> Result:
    """Return what `work` returns: at once, or from a thread if `conversation` is large."""
    if not is_large(conversation):
        return work()
    return await asyncio.to_thread(work)


def is_large(conversation: Iterable[HistoryMessage]) -> bool:
    """Return True if a conversation has so many blocks, or so much text, that work on it takes milliseconds."""
    count = size = 0
    for said in conversation:
        count += len(said.blocks)
        if count > LARGE_BLOCKS:
            return True
        for block in said.blocks:
            size += len(block.text_content or "")
            if block.content:
                size += sum(len(value) for value in block.content.values() if value.__class__ is str)
        if size > LARGE_TEXT:
            return True
    return False
