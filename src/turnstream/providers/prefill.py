"""Continuation of an answer that broke off: the text to send back, and the text that the model repeats.

A model continues text only. Open thinking, calls that have not been run, and all blocks after the last text
are retracted. Providers refuse a request that ends with white space, so it is left out of the request, and
its repetition is left out of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from turnstream.core.blocks import Block, Message

SHORTEST_REPETITION = 24
"""Characters of shown text from which an answer that begins with it counts as a repetition."""


class KeptBlocks(NamedTuple):
    """The part of a broken-off answer that a new call continues."""

    blocks: tuple[Block, ...]
    """Texts for the request."""
    text: str
    """All texts together, with the white space that the request lacks."""
    is_open: bool
    """True if the last text was still being written."""
    retract_from: int | None
    """Sequence of the first block to retract, or None if all blocks stay."""

    @property
    def message(self) -> Message:
        """Last message of the request."""
        return Message("assistant", self.blocks)


def kept_of(shown: Sequence[Block]) -> KeptBlocks | None:
    """Return the part of the shown blocks that a new call can continue, or None.

    An open block is `partial`.
    """
    texts: list[Block] = []
    retract_from: int | None = None
    for block in shown:
        if block.block_type == "text":
            texts.append(block)
            retract_from = None
        elif block.block_type != "thinking" or block.partial:
            retract_from = block.sequence if retract_from is None else retract_from
            break
        elif texts and retract_from is None:
            retract_from = block.sequence  # unless more text follows
    text = "".join(block.text_content or "" for block in texts)
    stripped = _without_last_space(texts)
    if not stripped:
        return None
    return KeptBlocks(stripped, text, texts[-1].partial and retract_from is None, retract_from)


def length_of(blocks: Sequence[Block]) -> int:
    """Return a number that grows with the blocks and their content."""
    return len(blocks) + sum(
        len(block.text_content or "") + len(str(block.content or "")) for block in blocks
    )


def _without_last_space(texts: Sequence[Block]) -> tuple[Block, ...]:
    """Return the texts without white space at the end. Empty blocks and other content are left out."""
    kept: list[Block] = []
    for block in reversed(texts):
        text = block.text_content or ""
        if not kept:
            text = text.rstrip()
        if text.strip():
            kept.append(msgspec.structs.replace(block, text_content=text, content=None, partial=False))
    return tuple(reversed(kept))


def without_repetition(shown: str, generated: str, *, is_all: bool = False) -> str | None:
    """Return the part of `generated` that is new, or None if more text is needed to decide.

    Args:
        shown: Text that the model continues.
        generated: Beginning of the text of the new call.
        is_all: True if no more text follows. The result is then not None.
    """
    stripped = shown.rstrip()
    tail = shown[len(stripped) :]
    if len(stripped) >= SHORTEST_REPETITION:
        if generated.startswith(stripped):
            generated = generated[len(stripped) :]
        elif not is_all and stripped.startswith(generated):
            return None
    again = 0
    while again < min(len(tail), len(generated)) and tail[again] == generated[again]:
        again += 1
    if again == len(generated) < len(tail) and not is_all:
        return None
    return generated[again:]
