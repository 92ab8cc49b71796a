"""What of an answer that broke off a model can go on from, and what it says once more when it does.

A model goes on from text alone. Thinking that broke off and calls that nobody has run yet are taken back; so is all
that came after the last text. Providers refuse a last word that ends in white space: it is left out of the request, and
what of it comes again is left out of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from turnstream.core.blocks import Block, Message

SHORTEST_REPETITION = 24
"""Characters from which on an answer that begins as the shown one did is taken for its repetition."""


class KeptBlocks(NamedTuple):
    """`blocks`: the texts to go on from. `text`: all of them, with the white space that the request lacks. `is_open`: the
    last one was being written. `taken_back`: the first block that does not stay, if there is one."""

    blocks: tuple[Block, ...]
    text: str
    is_open: bool
    taken_back: int | None

    @property
    def message(self) -> Message:
        """The last word of the request."""
        return Message("assistant", self.blocks)


def kept_of(shown: Sequence[Block]) -> KeptBlocks | None:
    """What can be gone on from of the blocks that a step has shown, of which one that is `partial` is being written; None
    where that is nothing."""
    texts: list[Block] = []
    taken_back: int | None = None
    for block in shown:
        if block.block_type == "text":
            texts.append(block)
            taken_back = None
        elif block.block_type != "thinking" or block.partial:
            taken_back = block.sequence if taken_back is None else taken_back
            break
        elif texts and taken_back is None:
            taken_back = block.sequence  # unless more text follows
    text = "".join(block.text_content or "" for block in texts)
    stripped = _without_last_space(texts)
    if not stripped:
        return None
    return KeptBlocks(stripped, text, texts[-1].partial and taken_back is None, taken_back)


def _without_last_space(texts: Sequence[Block]) -> tuple[Block, ...]:
    """Texts that say something, and nothing but text."""
    kept: list[Block] = []
    for block in reversed(texts):
        text = block.text_content or ""
        if not kept:
            text = text.rstrip()
        if text.strip():
            kept.append(msgspec.structs.replace(block, text_content=text, content=None, partial=False))
    return tuple(reversed(kept))


def unrepeated(shown: str, said: str, *, is_all: bool = False) -> str | None:
    """What of `said`, the beginning of the text with which a model goes on from `shown`, is new; None where more of it is
    needed to tell, which is never so once it `is_all`."""
    stripped = shown.rstrip()
    tail = shown[len(stripped) :]
    if len(stripped) >= SHORTEST_REPETITION:
        if said.startswith(stripped):
            said = said[len(stripped) :]
        elif not is_all and stripped.startswith(said):
            return None
    again = 0
    while again < min(len(tail), len(said)) and tail[again] == said[again]:
        again += 1
    if again == len(said) < len(tail) and not is_all:
        return None
    return said[again:]
