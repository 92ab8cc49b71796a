"""The state of a UI message stream at a cursor."""

from __future__ import annotations

import msgspec

from turnstream.core.blocks import BlockType, Content
from turnstream.core.open_block import TextChain


class ShownBlock(msgspec.Struct, frozen=True, gc=False):
    """The block that is being shown.

    Attributes:
        delta_head: The bytes of a delta's frame before the text.
        content: The block's content so far.
        text: The input of a call so far. None for other blocks, whose text is not needed again.
        sources: Number of citations that were sent.
    """

    block_index: int
    block_type: BlockType
    part_id: str
    delta_head: bytes
    content: Content = {}
    text: TextChain | None = None
    sources: int = 0


class StreamState(msgspec.Struct, frozen=True, gc=False):
    """The state of a UI message stream at a cursor.

    Attributes:
        has_begun: The `start` chunk was sent.
        is_over: Nothing may follow.
        in_step: A step is open.
        has_results: A result of a tool that ran here came in this step. The next output begins another step.
        step_seq: Seq of the event that began the step.
        step_first: Index of the step's first block, or None.
        has_other_parts: The step has parts that are not blocks.
        next_index: Index after the last block that was shown.
        calls: Ids of the calls that were shown.
        asked: Ids of the approvals that have no answer yet.
        denied: Ids of the calls that were not approved.
        block: The block that is being shown, or None.
        is_lost: The client has dropped the parts of the step. The turn's events are needed again.
        is_replay: The turn's events come again. Those before the step are not shown.
    """

    has_begun: bool = False
    is_over: bool = False
    in_step: bool = False
    has_results: bool = False
    step_seq: int = 0
    step_first: int | None = None
    has_other_parts: bool = False
    next_index: int = 0
    calls: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()
    block: ShownBlock | None = None
    is_lost: bool = False
    is_replay: bool = False
