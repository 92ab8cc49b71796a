"""States of an AG-UI stream: the run is shown, collected for a snapshot, or lost."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from turnstream.core.blocks import BlockType, Content
from turnstream.core.turn_events import ApprovalRequest, TurnEvent


class StreamedBlock(msgspec.Struct, frozen=True, gc=False):
    """The block that is being shown.

    Attributes:
        entity_id: Id of its message, or of its call.
        delta_head: The bytes of a delta's frame before the text. Empty if the block shows no text.
        content: The block's content so far.
        signature: Its signature so far.
    """

    block_index: int
    block_type: BlockType
    entity_id: str
    delta_head: bytes
    content: Content = {}
    signature: str = ""


class ShownRun(msgspec.Struct, frozen=True, gc=False):
    """A run that is shown event by event.

    Attributes:
        has_begun: RUN_STARTED was sent.
        is_over: Nothing may follow.
        step: Name of the open step, or None.
        block: The block that is being shown, or None.
        next_index: Index after the last block that was shown.
        has_reasoning: Reasoning was shown, which clients keep unless a snapshot has some.
        parent_id: Id of the assistant message that the next call belongs to, or None.
        calls: Ids of the calls without a result.
        approvals: Approvals that the turn waits for.
    """

    has_begun: bool = False
    is_over: bool = False
    step: str | None = None
    block: StreamedBlock | None = None
    next_index: int = 0
    has_reasoning: bool = False
    parent_id: str | None = None
    calls: tuple[str, ...] = ()
    approvals: tuple[ApprovalRequest, ...] = ()


class CollectedEvent:
    """An event of a catch-up, and the events before it. It compares by identity."""

    __slots__ = ("before", "event", "seq")

    def __init__(self, seq: int, event: TurnEvent, before: CollectedEvent | None) -> None:
        self.seq = seq
        self.event = event
        self.before = before


class CollectedRun(msgspec.Struct, frozen=True, gc=False):
    """A run whose events so far become a snapshot.

    Attributes:
        shown: The run as the client knows it. It has not begun if the client joins.
        last: The last event, or None before the first.
        shown_seq: Last event whose data and notices were shown. Later ones are shown after the snapshot.
    """

    shown: ShownRun
    last: CollectedEvent | None = None
    shown_seq: int = 0


class LostRun(msgspec.Struct, frozen=True, gc=False):
    """A run whose shown text was retracted: its events are needed again. Fields: see `CollectedRun`."""

    shown: ShownRun
    shown_seq: int


RunState: TypeAlias = ShownRun | CollectedRun | LostRun
