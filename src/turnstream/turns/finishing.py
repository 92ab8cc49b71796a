"""The end of a turn: stored in one transaction, and then shown as the terminal event."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from turnstream.core.accumulator import CutBlock
from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.core.open_block import catchup_of
from turnstream.core.turn_events import Terminal, TurnEvent
from turnstream.errors import Fenced, StaleGeneration, StoreError, TurnGone
from turnstream.model_loop.accounts import Summary
from turnstream.store.base import BlockRecord, OutcomeRecord, Store, TurnRecord
from turnstream.store.operations.progress import FinishTurn
from turnstream.store.queries import GetTurn
from turnstream.turnlog.log import TurnLog
from turnstream.turns.clock import now_microseconds
from turnstream.turns.ending import STOPPED, cut_rows, final_outcome, terminal_event
from turnstream.turns.failures import describe_failure
from turnstream.turns.writing import TurnWriter

logger = logging.getLogger(__name__)


class Rest(NamedTuple):
    """The parts of a turn that are not stored or shown when the turn ends.

    Attributes:
        events: Events that show the rest of the blocks.
        cuts: Blocks that the end cuts off.
        summary: Usage and cost of the turn.
        final_events: Events to show after the blocks.
    """

    events: list[TurnEvent]
    cuts: list[CutBlock]
    summary: Summary
    final_events: Sequence[TurnEvent]


class _PreparedEnd(NamedTuple):
    """An end to be written. `events` are shown after the write, before the terminal event."""

    operation: FinishTurn
    events: list[TurnEvent]
    rows: tuple[BlockRecord, ...]


class Finisher:
    """Stores and shows the end of one turn.

    Attributes:
        turn: The turn's row, as far as this process knows it.
        outcome: The end of the turn. None until it is decided.
    """

    def __init__(
        self, turn: TurnRecord, log: TurnLog, store: Store, writer: TurnWriter, *, debug: bool = False
    ) -> None:
        self._debug = debug
        self.turn = turn
        self.outcome: OutcomeRecord | None = None
        self.unsaved: FinishTurn | None = None
        """The write of the end, if storage refused it."""
        self._prepared: _PreparedEnd | None = None
        self._log = log
        self._store = store
        self._writer = writer

    async def finish(self, outcome: OutcomeRecord, rest: Rest) -> None:
        """Store the end, then show it.

        If storage fails, the end is shown as an error, and `unsaved` is set. After a cancellation, call it
        again: the same end is stored once. Raises only StaleGeneration: another node has the turn, or may
        have claimed it by now.
        """
        if self._prepared is None:
            self._prepared = self._prepare(outcome, rest)
        operation, events, rows = self._prepared
        log = self._log
        try:
            self.turn = await self._write(operation)
        except TurnGone:
            self.end_unsaved(STOPPED["deleted"], rows, rest.summary)
            self._mark_stored()
        except StaleGeneration:
            raise
        except StoreError as error:
            if not self._writer.has_lease:
                raise StaleGeneration("another node may have claimed the turn") from error
            logger.error("turn %s: its end could not be stored: %s", self.turn.id, error)
            self.end_unsaved(outcome, rows, rest.summary, error)
        else:
            own_end = self.turn.last_seq == operation.outcome.last_seq
            log.ended(events if own_end else (), self._terminal(rows))

    def _prepare(self, outcome: OutcomeRecord, rest: Rest) -> _PreparedEnd:
        """Number the remaining events, and build the write of the end."""
        log = self._log
        events, cuts, summary, final_events = rest
        rows = cut_rows(self.turn.id, log, cuts)
        # The cut's events for the open block are shown at once, because watchers see that block already.
        if cuts and cuts[0].start is None:
            log.append(events[: cuts[0].stop])
            events = events[cuts[0].stop :]
        events = [*events, *final_events]
        return _PreparedEnd(self._operation(outcome, rows, summary, log.head + len(events) + 1), events, rows)

    def end_unsaved(
        self,
        outcome: OutcomeRecord,
        rows: Sequence[BlockRecord],
        summary: Summary,
        error: StoreError | None = None,
    ) -> None:
        """Show the end after storage has refused it with `error`. The rows wait in `unsaved`.

        The open block stays readable in memory. Watchers get no block_stop before the end, and the cursors of
        the rows agree with that.
        """
        if outcome.status != "error":
            error = error or StoreError("the end of the turn could not be stored")
            code, message = describe_failure(error, debug=self._debug)
            outcome = OutcomeRecord(status="error", error_code=code, error_message=message)
        self.outcome = outcome
        head = self._log.head
        shown = self._log.open_block
        kept: list[BlockRecord] = []
        others: list[TurnEvent] = []
        for row in rows:
            if shown is not None and row.block.sequence == shown.sequence:
                kept.append(msgspec.structs.replace(row, first_seq=min(row.first_seq, head), last_seq=head))
            else:  # no watcher has seen it: it is shown whole
                others.append(catchup_of(row.block))
                seq = head + len(others)
                kept.append(msgspec.structs.replace(row, first_seq=seq, last_seq=seq))
        self.unsaved = self._operation(outcome, tuple(kept), summary, head + len(others) + 1)
        self.turn = self.unsaved.ended(self.turn)
        self._log.ended_unstored(others, self._terminal(rows))

    async def save(self) -> None:
        """Retry the write of an end that storage refused. Raises StoreError."""
        if (operation := self.unsaved) is None:
            return
        with suppress(Fenced):  # the turn is deleted, or another process has it: nothing to save
            await self._store.write(operation)
        self._mark_stored()

    def _mark_stored(self) -> None:
        """Mark the end as stored."""
        self.unsaved = None
        self._log.end_stored()

    async def _write(self, operation: FinishTurn) -> TurnRecord:
        """Store the end, and return the turn's row after it. Raises StoreError."""
        if await self._writer.write(operation):
            return operation.ended(self.turn)
        row = await self._store.read(GetTurn(owner=None, turn_id=self.turn.id))
        if row.generation != operation.generation:
            raise StaleGeneration("another node has ended the turn")
        if row.status not in TERMINAL_STATUSES:
            raise StoreError("the end of the turn was not accepted")
        return row

    def _operation(
        self, outcome: OutcomeRecord, rows: tuple[BlockRecord, ...], summary: Summary, last_seq: int
    ) -> FinishTurn:
        complete = outcome.status == "complete"
        now = now_microseconds()
        started_at = self._writer.marked_at or (now if complete else None)
        return FinishTurn(
            turn_id=self.turn.id,
            generation=self.turn.generation,
            outcome=final_outcome(outcome, summary, last_seq=last_seq, now=now, started_at=started_at),
            blocks=rows,
            model=summary.attempts[-1].model if summary.attempts and complete else None,
            attempts=summary.attempts,
        )

    def _terminal(self, rows: Sequence[BlockRecord]) -> Terminal:
        writer = self._writer
        total = writer.blocks_completed + len(rows)
        writer.blocks_completed += sum(not row.block.partial for row in rows)
        return terminal_event(self.turn, total_blocks=total, blocks_completed=writer.blocks_completed)
