"""Subscriptions: a watcher joins a turn's live log, or a log that is built from the turn's rows."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TypeVar

from turnstream.core.cursor import Cursor
from turnstream.core.lifecycle import has_executor
from turnstream.core.turn_events import TurnCancelled, TurnComplete, TurnError
from turnstream.errors import Unavailable
from turnstream.store.base import StoreReader, TurnRecord
from turnstream.store.queries import CountBlocks, GetTurn
from turnstream.store.transient.store import TransientReader
from turnstream.turnlog.base import DialectEncoder
from turnstream.turnlog.dialect_subscription import DialectSubscription
from turnstream.turnlog.ended_turns import EndedTurn
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.subscription import Subscription
from turnstream.turns.archive import KeptParts, StoreArchive
from turnstream.turns.commands import Commands
from turnstream.turns.ending import terminal_event
from turnstream.turns.model_turns import EncoderFactory
from turnstream.turns.new_turns import history_of

Watching = TypeVar("Watching", bound=Subscription)

PATIENCE = 1.0
"""Seconds that a watcher waits for a mirror that has not reached its cursor. Then it gets a full snapshot."""
_MOST_TAKEOVERS = 16
"""Generations by which a mirror may be late. A cursor of a later generation is that of another turn."""


class SubscriptionMaker:
    """Makes the subscriptions of watchers."""

    def __init__(self, commands: Commands, encoder: EncoderFactory) -> None:
        self._store = commands.store
        self._registry = commands.registry
        self._encoder = encoder
        self._recovery = commands.recovery
        self._waiting = commands.approvals.logs
        self._mirrors = commands.mirrors
        self._kept = KeptParts()

    async def subscribe(
        self,
        owner: str,
        turn_id: str,
        *,
        after: Cursor | None = None,
        from_block: int = 0,
        patience: float = PATIENCE,
    ) -> Subscription:
        """Return a watcher's subscription to a turn. Raises NotFound, StoreError.

        Args:
            after: Cursor of the last event that the watcher has. None for the beginning.
            from_block: Index of the first block to send. The watcher has the blocks before it.
            patience: Seconds to wait for a mirror that has not reached `after`. The watcher may come from the
                turn's own node, which shows each event before other nodes can read it.
        """
        log = await self._log(owner, turn_id)
        if after is not None and patience and self._mirrors.known(turn_id) is log:
            await _reached(log, after, patience)
        archive = StoreArchive(self._reader(turn_id), log, self._kept)
        return self._counted(Subscription(log, archive, after=after, from_block=from_block))

    async def subscribe_in(
        self,
        encoder: DialectEncoder,
        owner: str,
        turn_id: str,
        *,
        state: object | None = None,
        is_exact: bool = True,
    ) -> DialectSubscription:
        """Return a watcher's subscription to a turn in the dialect of `encoder`. Raises NotFound, StoreError.

        Args:
            state: See `DialectSubscription`.
            is_exact: See `DialectSubscription`.
        """
        log = await self._log(owner, turn_id)
        archive = StoreArchive(self._reader(turn_id), log, self._kept)
        return self._counted(DialectSubscription(log, archive, encoder, state=state, is_exact=is_exact))

    def _reader(self, turn_id: str) -> StoreReader:
        """Return the reader of a turn's rows.

        For a transient turn, it still works after the turn is dropped.
        """
        rows = self._registry.transient.rows(turn_id)
        return self._store if rows is None else TransientReader(rows)

    def _counted(self, subscription: Watching) -> Watching:
        measures = self._registry.measures
        measures.subscriptions += 1
        if self._registry.executor(subscription.turn_id) is None and subscription.needs_catch_up:
            measures.catch_ups += 1  # this log is dropped with its watcher, and its own count is lost
        return subscription

    async def _log(self, owner: str, turn_id: str) -> TurnLog:
        """Return the log of a turn: the live one, or one that is made from the turn's rows."""
        log = self._log_here(turn_id, owner)
        if log is not None and log.head and not self._may_be_deleted(turn_id):
            return log  # a turn that has begun here needs no read of the store
        turn = await self._store.read(GetTurn(owner=owner, turn_id=turn_id))
        if log is None or not self._may_be_deleted(turn_id):
            return await self._log_found(turn_id, turn)
        return log if await self._has_all_blocks(turn_id, log) else await self._log_of_rows(turn)

    def _may_be_deleted(self, turn_id: str) -> bool:
        """Return True if another node may have deleted the turn or blocks of it: it has ended."""
        return self._registry.publishes and self._registry.executor(turn_id) is None

    async def _has_all_blocks(self, turn_id: str, log: TurnLog) -> bool:
        """Return True if all blocks of an ended turn are still stored."""
        total, completed = await self._store.read(CountBlocks(turn_id=turn_id))
        match log.terminal:
            case (_, TurnComplete(total_blocks=shown)):
                return shown == total
            case (_, TurnError(blocks_completed=shown) | TurnCancelled(blocks_completed=shown)):
                return shown == completed
            case None:
                return True

    def _log_here(self, turn_id: str, owner: str | None) -> TurnLog | None:
        """Return the log of a turn in memory. Return None if there is none, or the owner is another one."""
        kept = self._registry.get(turn_id)
        if isinstance(kept, EndedTurn):
            return kept.log(self._encoder) if owner in {None, kept.owner} else None
        return kept.log if kept is not None and owner in {None, kept.turn.owner} else None

    async def _log_found(self, turn_id: str, turn: TurnRecord) -> TurnLog:
        log = self._log_here(turn_id, None)
        if log is None and self._mirrors.is_elsewhere(turn):
            return await self._mirrors.log_of(turn)
        if log is None and turn.status == "waiting":
            if (log := await self._waiting.watched(turn_id)) is not None:
                return log
            turn = await self._store.read(GetTurn(owner=None, turn_id=turn_id))
            log = self._log_here(turn_id, None)
        if log is None and has_executor(turn.status):
            is_here = await self._recovery.end(turn)
            turn = await self._store.read(GetTurn(owner=None, turn_id=turn_id))
            log = self._log_here(turn_id, None)
            if log is None and not is_here and has_executor(turn.status):
                raise Unavailable("another node runs this turn: try again in a moment")
        return log or await self._log_of_rows(turn)

    async def _log_of_rows(self, turn: TurnRecord) -> TurnLog:
        """Return the log of a turn that has ended. All its blocks are in the store."""
        total, completed = await self._store.read(CountBlocks(turn_id=turn.id))
        last = turn.last_seq
        log = TurnLog(
            turn.id,
            turn.generation,
            self._encoder(turn.id, turn.generation),
            head=max(last - 1, 0),
        )
        terminal = terminal_event(turn, total_blocks=total, blocks_completed=completed)
        log.rebuilt(history_of(turn, last), terminal)
        return log


async def _reached(log: TurnLog, cursor: Cursor, seconds: float) -> None:
    """Wait until a mirror has the event of `cursor`. Return after `seconds`, and for a cursor of no event."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (
                cursor > log.head_cursor
                and cursor.generation - log.generation <= _MOST_TAKEOVERS
                and log.terminal is None
                and not log.closed
            ):
                waiter = asyncio.get_running_loop().create_future()
                log.add_waiter(waiter)
                try:
                    await waiter
                finally:
                    log.discard_waiter(waiter)
