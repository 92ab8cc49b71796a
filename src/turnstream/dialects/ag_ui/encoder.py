"""TurnEvents as events of AG-UI 1.0 (docs/reference/protocols.md).

data: {"type":"TEXT_MESSAGE_CONTENT","messageId":"…-0","delta":"Hello"}

A watcher that joins in mid-run gets a snapshot of all messages, then the events that follow:

    catch-up ─► collected ─► MESSAGES_SNAPSHOT ─► shown ─► retracted text: lost ─► collected again
"""

from __future__ import annotations

from typing import cast

import msgspec
from msgspec.structs import replace

from turnstream.core.turn_events import (
    ApprovalRequest,
    ApprovalResponse,
    BlockCatchup,
    BlockDelta,
    BlockReset,
    BlockStart,
    BlockStop,
    Notice,
    TurnCancelled,
    TurnComplete,
    TurnError,
    TurnEvent,
    TurnStart,
)
from turnstream.dialects.ag_ui.event_writer import RunFacts, RunWriter, delta_frames
from turnstream.dialects.ag_ui.messages import (
    CollectedBlocks,
    RunIds,
    RunMessages,
    encoded_messages,
    is_reordered,
    messages_of,
    shortened_results,
)
from turnstream.dialects.ag_ui.run_state import (
    CollectedEvent,
    CollectedRun,
    LostRun,
    RunState,
    ShownRun,
)

HEARTBEAT = b": keep-alive\n\n"
HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}

_encode = msgspec.json.Encoder().encode
_ALWAYS_SHOWN = (ApprovalRequest, ApprovalResponse, TurnComplete, TurnError, TurnCancelled)
"""Events of a catch-up that count even if they were shown before a snapshot."""
_TEXT_FIELDS = frozenset({"text", "partial_json"})
_OF_BLOCKS = (TurnStart, BlockStart, BlockDelta, BlockStop, BlockCatchup, BlockReset)


class EarlierMessages(msgspec.Struct, frozen=True):
    """The messages that the client had when it asked, without those of the run.

    Attributes:
        items: The messages as items of a JSON array. None if they are too large for a snapshot.
        has_own_reasoning: The client had reasoning of the run. It keeps it unless a snapshot has reasoning.
        own_ids: Ids of the run's messages that the client had, in its order.
    """

    items: bytes | None = b""
    has_own_reasoning: bool = False
    own_ids: tuple[str, ...] = ()


class AgUiEncoder:
    """Encodes the events of one turn as one run.

    Args:
        turn_id: The turn.
        facts: The run.
        earlier: The client's messages before the run. They are in snapshots, which are made for one watcher.
        joins: True to begin with a snapshot. False for a client that has just started the turn.
    """

    def __init__(
        self, turn_id: str, facts: RunFacts, earlier: EarlierMessages | None = None, *, joins: bool = False
    ) -> None:
        version = 1 if facts.knows_cancelled else 0
        self.name = f"ag-ui-{version} {_encode([facts.thread_id, facts.run_id]).decode()}"
        self._ids = RunIds(turn_id)
        self._facts = facts
        self._earlier = earlier or EarlierMessages()
        self._joins = joins

    def begin(self) -> RunState:
        """Return the state before the run."""
        return CollectedRun(ShownRun()) if self._joins else ShownRun()

    def is_over(self, state: object) -> bool:
        """Return True if the run has ended."""
        return isinstance(state, ShownRun) and state.is_over

    def needs_replay(self, state: object) -> bool:
        """Return True if a snapshot must be made: shown text was retracted."""
        return isinstance(state, LostRun)

    def is_settled(self, state: object) -> bool:
        """Return False if a snapshot is due, or if the turn waits for approvals."""
        if isinstance(state, CollectedRun):
            return state.last is None
        return isinstance(state, LostRun) or not cast(ShownRun, state).approvals

    def settle(self, state: object) -> tuple[bytes, object]:
        """Return the snapshot of the collected events, or the end of the run of a turn that waits."""
        if isinstance(state, CollectedRun):
            return self._snapshot(state)
        writer = RunWriter(cast(ShownRun, state), self._ids, self._facts)
        writer.wait()
        return b"".join(writer.frames), writer.state

    def encode(self, state: object, seq: int, event: TurnEvent) -> tuple[bytes, object]:
        """Return the events of one TurnEvent, and the state after it. See `DialectEncoder.encode`."""
        if type(event) is BlockDelta and type(state) is ShownRun and event.field in _TEXT_FIELDS:
            block = None if state.is_over else state.block  # nearly all events
            if block is None or not block.delta_head or not event.value:
                return b"", state
            return delta_frames(block.delta_head, event.value), state
        now = cast(RunState, state)
        if isinstance(now, ShownRun):
            return self._show(now, seq, event)
        if isinstance(now, LostRun):
            if not isinstance(event, TurnStart):
                return b"", state
            now = CollectedRun(now.shown, None, now.shown_seq)
        now = replace(now, last=CollectedEvent(seq, event, now.last))
        if isinstance(event, TurnComplete | TurnError | TurnCancelled):
            return self._snapshot(now)
        return b"", now

    def _show(self, now: ShownRun, seq: int, event: TurnEvent) -> tuple[bytes, object]:
        if now.is_over:
            return b"", now
        match event:
            case BlockReset(block_index=index) | Notice(code="truncated", block_index=int(index)):
                return self._lose(now, seq) if index < now.next_index else (b"", now)
            case TurnStart() if now.has_begun:  # the turn is sent again from its beginning
                data, lost = self._lose(now, seq - 1)
                return data, CollectedRun(lost.shown, CollectedEvent(seq, event, None), lost.shown_seq)
            case _:
                writer = RunWriter(now, self._ids, self._facts)
                writer.write(event)
                return b"".join(writer.frames), writer.state

    def _lose(self, now: ShownRun, seq: int) -> tuple[bytes, LostRun]:
        """Close the open messages: the next snapshot replaces them."""
        writer = RunWriter(now, self._ids, self._facts)
        writer.close_block()
        return b"".join(writer.frames), LostRun(writer.state, seq)

    # -- snapshots -------------------------------------------------------------------------------------------

    def _snapshot(self, state: CollectedRun) -> tuple[bytes, ShownRun]:
        """Return a snapshot of the collected events, and the events that have no place in it."""
        events: list[CollectedEvent] = []
        collected = state.last
        while collected is not None:
            events.append(collected)
            collected = collected.before
        events.reverse()
        blocks = CollectedBlocks()
        for one in events:
            blocks.add(one.event)
        run = messages_of(self._ids, blocks.shown)
        writer = RunWriter(state.shown, self._ids, self._facts)
        writer.begin()
        frame = self._frame_of(run, knows_reasoning=state.shown.has_reasoning)
        if state.shown.has_begun or is_reordered(self._earlier.own_ids, run.messages):
            # A client keeps the place of a message that it has. So it first drops those of the run.
            empty = self._frame_of(messages_of(self._ids, ()), knows_reasoning=state.shown.has_reasoning)
            frame = empty and frame and empty + frame
        if frame is None:
            writer.fail("the messages are too large for a snapshot", "snapshot_too_large")
            return b"".join(writer.frames), writer.state
        writer.frames.append(frame)
        writer.state = ShownRun(
            has_begun=True,
            step=state.shown.step,
            next_index=max(blocks.blocks, default=-1) + 1,
            has_reasoning=run.has_reasoning,
            parent_id=run.parent_id,
            calls=run.calls,
        )
        if not state.shown.has_begun:
            for block in blocks.blocks.values():
                writer.show_facts(block.sequence, block.block_type, block.content or {})
        for one in events:
            is_new = one.seq > state.shown_seq or isinstance(one.event, _ALWAYS_SHOWN)
            is_truncation = isinstance(one.event, Notice) and one.event.code == "truncated"
            if is_new and not is_truncation and not isinstance(one.event, _OF_BLOCKS):
                writer.write(one.event)
        if blocks.open is not None and not writer.state.is_over:
            open_block = blocks.open
            content = open_block.shown_content() or {}
            writer.open_block(open_block.sequence, open_block.block_type, content)
        return b"".join(writer.frames), writer.state

    def _frame_of(self, run: RunMessages, *, knows_reasoning: bool) -> bytes | None:
        """Return the frame of a snapshot, or None if it would be too large."""
        messages = run.messages
        if (knows_reasoning or self._earlier.has_own_reasoning) and not run.has_reasoning:
            # Clients keep retracted reasoning, unless a snapshot has reasoning.
            messages = [
                *messages,
                {"id": f"{self._ids.turn_id}-retracted", "role": "reasoning", "content": ""},
            ]
        items = encoded_messages(messages, may_shorten=False)
        if items is None:
            items = encoded_messages(shortened_results(messages), may_shorten=False)
        if items is None or self._earlier.items is None:
            return None
        all_items = b",".join(part for part in (self._earlier.items, items) if part)
        return b'data: {"type":"MESSAGES_SNAPSHOT","messages":[%b]}\n\n' % all_items
