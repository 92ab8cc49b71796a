"""The sink of a turn: stores durable events before they are shown. Other events wait meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, TypeVar

import msgspec

from turnstream.core.accumulator import Accumulator
from turnstream.core.blocks import Block
from turnstream.core.identifiers import new_id
from turnstream.core.open_block import OpenBlock
from turnstream.core.stream_events import StreamEvent
from turnstream.core.tool_input import call_digest
from turnstream.core.turn_events import (
    ApprovalRequest,
    BlockReset,
    BlockStop,
    Data,
    Notice,
    Source,
    TurnEvent,
    UserRedacted,
)
from turnstream.errors import Fenced, StoreError
from turnstream.model_loop.accounts import Summary, TurnAccount
from turnstream.model_loop.sink import OwnEvent, Progress, Settle
from turnstream.model_loop.sources import PendingApproval
from turnstream.nodes.lease import Lease, boot_seconds
from turnstream.providers.base import Take
from turnstream.store.base import Annotation, ApprovalRecord, BlockRecord, Operation, Store, TurnRecord
from turnstream.store.operations.approvals import StartWaiting
from turnstream.store.operations.content import RedactUserTurn, SaveAnnotations, SaveBlock
from turnstream.store.operations.progress import MarkStreaming, RetractBlocks, SaveStep
from turnstream.store.queries import AllBlocks
from turnstream.turnlog.log import TurnLog
from turnstream.turns.clock import iso_timestamp, now_microseconds
from turnstream.turns.interruption import Interruption
from turnstream.turns.journal import BlockJournal, TurnJournal

logger = logging.getLogger(__name__)

STORE_RETRY_DELAY = 0.1
"""Seconds before the one retry of a failed write."""

LONGEST_REPETITION = 1024 * 1024
"""Characters of retracted text that are kept to compare the next attempt with."""

Value = TypeVar("Value")


class TurnWriter:
    """The sink of a turn: stores what is durable, and appends every event to the turn's log.

    Attributes:
        busy: True while a row is written whose number in the log is decided. Other events wait, because they
            would take that number.
        waiting: True once the turn waits for approvals. Then this writer writes nothing more.
    """

    def __init__(self, turn: TurnRecord, log: TurnLog, store: Store, interruption: Interruption) -> None:
        self.label = f"turn {turn.id}"
        self.progress = Progress(monotonic())
        self.committed = asyncio.Event()
        """Set once the turn's rows are durable, or will never be."""
        self.is_ready = False
        self.busy = False
        self.waiting = False
        self.blocks_completed = 0
        self.journal: TurnJournal = BlockJournal()
        self.on_withdrawal: Callable[[], None] = lambda: None
        """Called when the provider has withdrawn blocks that the journal may have."""
        self.marking: asyncio.Task[None] | None = None
        self.saving: asyncio.Task[None] | None = None
        """The last write of a step's account."""
        self.marked_at: int | None = None
        """Time, in microseconds since the epoch, at which the turn began to stream. None before."""
        self.wait = interruption.wait
        self._interruption = interruption
        self._turn_id = turn.id
        self._generation = turn.generation
        self._asked_turn_id = turn.prev_turn_id or ""
        self._log = log
        self._store = store
        self._postponed: list[TurnEvent] = []

    # -- the sink ----------------------------------------------------------------------------------------

    async def ready(self) -> None:
        """Wait until the turn's rows are durable.

        Raises TaskStopped if the turn has ended without the task.
        """
        self._interruption.check()
        await self.committed.wait()
        self.is_ready = True

    def taker(self, accumulator: Accumulator, step: int | None) -> Take:
        """Return the function that shows a batch while the task waits.

        It refuses a batch that needs an await.
        """
        del step
        interruption, progress = self._interruption, self.progress
        extend, grow, gaps = accumulator.extend_shown, self._log.grow, progress.gaps

        def take(events: Sequence[StreamEvent]) -> bool:
            if interruption.cause is not None:
                return False
            changes = extend(events)
            if changes is None:
                return False
            now = monotonic()
            if gaps is not None:
                gaps.observe(now - progress.last)
            progress.last = now
            for delta in changes:
                grow(delta)
            return True

        return take

    def show(self, events: Sequence[TurnEvent], open_block: OpenBlock | None) -> None:
        """Append events to the log. The first batch of the source changes the turn's status to streaming."""
        if self.progress.has_begun:
            self._mark_streaming()
            self.show = self._log.show  # this method has nothing left to do: one call less per batch
        self._log.show(events, open_block)

    def leave_log(self) -> None:
        """Stop showing events. Another node writes the turn now, and the log becomes a mirror."""
        self._log = self._log.unwatched()
        self.show = self._log.show

    async def keep(self, item: Block | BlockReset | OwnEvent, settle: Settle) -> None:
        """Store a block, a reset or a durable event, then append its event. Raises StoreError."""
        log = self._log
        shown = await self._shown_by(item) if isinstance(item, BlockReset) else None
        if isinstance(item, UserRedacted):
            item = msgspec.structs.replace(item, user_turn_id=self._asked_turn_id)
        if (operation := self._operation(item)) is not None:
            self.busy = True
            try:
                await self.write(operation)
            finally:
                self.busy = False
        event, open_block = settle()
        if isinstance(item, UserRedacted):
            event = item
        if isinstance(event, BlockStop):
            log.block_stored(event, open_block)
            self.blocks_completed += 1
            logger.debug("block %d (%s) is complete and stored", event.block_index, event.block_type)
        elif isinstance(event, BlockReset):
            log.retracted(BlockReset(event.block_index, shown), open_block)
            self.blocks_completed = min(self.blocks_completed, max(0, event.block_index))
            self.journal.retract()
            if event.is_withdrawal:
                self.on_withdrawal()
        elif operation is not None:
            log.event_stored(event)
        else:
            log.append([event])
        if self._postponed:
            postponed, self._postponed = self._postponed, []
            log.append(postponed)

    async def _shown_by(self, reset: BlockReset) -> tuple[Block, ...] | None:
        """Return the shown blocks that a reset retracts. None: later blocks cannot be compared with them."""
        if reset.shown is not None:
            return reset.shown
        index = reset.block_index
        try:
            rows = await self._store.read(AllBlocks(turn_id=self._turn_id))
        except StoreError as error:
            logger.warning("turn %s: retracted blocks could not be read: %s", self._turn_id, error)
            return None
        shown = [row.block for row in rows if row.block.sequence >= index]
        open_block = self._log.open_block
        if open_block is not None and open_block.sequence >= index:
            content = open_block.shown_content()
            shown.append(
                Block(open_block.sequence, open_block.block_type, open_block.text(), content, partial=True)
            )
        return tuple(shown) if sum(map(_length, shown)) <= LONGEST_REPETITION else None

    def _operation(self, item: Block | BlockReset | OwnEvent) -> Operation[Any] | None:
        """Return the write of `item`, whose event comes next in the log. None if `item` is not durable.

        Raises TypeError if an event cannot be encoded.
        """
        turn_id, generation = self._turn_id, self._generation
        _, first_seq, _, head = self._log.open_state
        seq = head + 1
        if isinstance(item, Block):
            row = BlockRecord(new_id(), turn_id, item, first_seq, seq, now_microseconds())
            return SaveBlock(turn_id=turn_id, generation=generation, row=row)
        if isinstance(item, BlockReset):
            return RetractBlocks(turn_id=turn_id, generation=generation, index=item.block_index, seq=seq)
        encoded = msgspec.json.encode(item)
        if not is_stored_event(item):
            return None
        rows = (Annotation(turn_id, seq, encoded),)
        if isinstance(item, UserRedacted) and item.user_turn_id:
            return RedactUserTurn(
                turn_id=turn_id,
                generation=generation,
                asked_turn_id=item.user_turn_id,
                block_id=new_id(),
                replacement=item.replacement,
                at=now_microseconds(),
                rows=rows,
            )
        return SaveAnnotations(turn_id=turn_id, generation=generation, rows=rows)

    # -- for the turn's task -----------------------------------------------------------------------------

    @property
    def has_lease(self) -> bool:
        """True if no other node may have claimed the turn."""
        return True

    @property
    def marked(self) -> bool:
        """True if the turn has begun to stream."""
        return self.marked_at is not None

    def save_account(self, summary: Summary) -> None:
        """Store the usage so far, and the calls that were made.

        No task waits for this write. Later writes of the turn are not committed before it, and the end of the
        turn repeats all of it.
        """
        self.saving = asyncio.get_running_loop().create_task(self._store.write(self._account(summary)))
        self.saving.add_done_callback(_log_failure)

    def _account(self, summary: Summary) -> SaveStep:
        return SaveStep(
            turn_id=self._turn_id,
            generation=self._generation,
            steps=summary.steps,
            attempts=summary.attempts,
        )

    async def start_waiting(
        self, pending: Sequence[PendingApproval], step: int, account: TurnAccount
    ) -> None:
        """Store that the turn waits for approvals, then show the requests. Raises StoreError.

        Args:
            pending: Calls that wait.
            step: Number of their step.
            account: Account of the turn up to this step.
        """
        now = now_microseconds()
        asked = [
            _asked(self._turn_id, call, step, seq, now)
            for seq, call in enumerate(pending, self._log.head + 1)
        ]
        operation = StartWaiting(
            turn_id=self._turn_id,
            generation=self._generation,
            approvals=tuple(approval for approval, _ in asked),
            events=tuple(
                Annotation(self._turn_id, approval.seq, msgspec.json.encode(event))
                for approval, event in asked
            ),
            account=self._account(account.so_far()),
            now=now,
        )
        self.busy = True
        try:
            await self.write(operation)
        finally:
            self.busy = False
        self.waiting = True
        self._postponed.clear()  # the store numbers the next event of a waiting turn
        self._log.event_stored(*(event for _, event in asked))

    def _mark_streaming(self) -> None:
        """Change the status from pending to streaming.

        No task waits for this write, and it may come after other writes of the turn: the end also stores the
        time at which the turn began to stream.
        """
        self.marked_at = now_microseconds()
        operation = MarkStreaming(turn_id=self._turn_id, generation=self._generation, now=self.marked_at)
        self.marking = asyncio.get_running_loop().create_task(self._store.write(operation))
        self.marking.add_done_callback(_log_failure)

    async def write(self, operation: Operation[Value]) -> Value:
        """Write durably, with one retry. Raises StoreError."""
        try:
            return await self._store.write(operation)
        except Fenced:
            raise
        except StoreError as error:
            logger.warning("turn %s: storage failed, retrying once: %s", self._turn_id, error)
            await asyncio.sleep(STORE_RETRY_DELAY)
            return await self._store.write(operation)

    def show_soon(self, event: TurnEvent) -> None:
        """Show a transient event now, or right after the row that is being written."""
        if self.busy:
            self._postponed.append(event)
        elif not self.waiting:
            self._log.append([event])


class LeasedWriter(TurnWriter):
    """The sink of a turn of a node that shares its database. It shows nothing without the node's lease."""

    def __init__(
        self, turn: TurnRecord, log: TurnLog, store: Store, interruption: Interruption, lease: Lease
    ) -> None:
        self._lease = lease
        self._is_committed = False
        super().__init__(turn, log, store, interruption)

    @property
    def is_ready(self) -> bool:
        """True if the turn's rows are durable and the lease is valid."""
        return self._is_committed and self._lease.is_valid

    @property
    def has_lease(self) -> bool:
        return self._lease.is_valid

    @is_ready.setter
    def is_ready(self, value: bool) -> None:
        self._is_committed = value

    async def ready(self) -> None:
        """Wait until the turn's rows are durable and the lease is valid. See `TurnWriter.ready`."""
        await super().ready()
        await self._lease.validity()

    def taker(self, accumulator: Accumulator, step: int | None) -> Take:
        """Return the function of `TurnWriter.taker`. It also refuses a batch without the lease."""
        take, lease = super().taker(accumulator, step), self._lease
        return lambda events: boot_seconds() < lease.deadline and take(events)

    def show_soon(self, event: TurnEvent) -> None:
        """Show a transient event now, or drop it without the lease."""
        if self._lease.is_valid:
            super().show_soon(event)


def is_stored_event(event: TurnEvent) -> bool:
    """Return True if an event outside the blocks is kept for later watchers."""
    return isinstance(event, Notice | Source | UserRedacted) or (
        isinstance(event, Data) and not event.transient
    )


def _asked(
    turn_id: str, pending: PendingApproval, step: int, seq: int, now: int
) -> tuple[ApprovalRecord, ApprovalRequest]:
    """Return the row and the event of an approval that is requested now."""
    content = pending.call.content or {}
    approval = ApprovalRecord(
        id=new_id(),
        turn_id=turn_id,
        sequence=pending.call.sequence,
        step=step,
        seq=seq,
        tool_use_id=str(content.get("tool_use_id") or ""),
        tool_name=str(content.get("tool_name") or ""),
        input_digest=call_digest(pending.call),
        created_at=now,
        expires_at=now + int(pending.seconds * 1_000_000),
    )
    return approval, approval_request(approval)


def approval_request(approval: ApprovalRecord) -> ApprovalRequest:
    """Return the event that asks for an approval."""
    return ApprovalRequest(
        approval.id,
        approval.tool_use_id,
        approval.tool_name,
        approval.input_digest,
        iso_timestamp(approval.expires_at),
    )


def _length(block: Block) -> int:
    return len(block.text_content or str((block.content or {}).get("input_json", "")))


def _log_failure(task: asyncio.Task[None]) -> None:
    if task.cancelled() or (error := task.exception()) is None:
        return
    if not isinstance(error, Fenced):  # fenced: the turn had ended before
        logger.warning("the progress of a turn could not be stored: %s", error)
