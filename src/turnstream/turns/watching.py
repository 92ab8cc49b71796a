"""Joining a turn as a watcher: the live log where there is one, else one made from the rows (A6, C2, C3)."""

from __future__ import annotations

from turnstream.core.cursor import Cursor
from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.store.base import Store, Turn
from turnstream.store.queries import CountBlocks, GetTurn
from turnstream.turnlog.memory import Fence, Reset, TurnLog
from turnstream.turnlog.subscription import Subscription
from turnstream.turns.archive import KeptParts, StoreArchive
from turnstream.turns.commands import EncoderFactory, start_event
from turnstream.turns.ending import terminal_event
from turnstream.turns.recovery import Recovery
from turnstream.turns.registry import Registry


class Watching:
    """Makes subscriptions."""

    def __init__(self, store: Store, registry: Registry, encoder: EncoderFactory, recovery: Recovery) -> None:
        self._store = store
        self._registry = registry
        self._encoder = encoder
        self._recovery = recovery
        self._kept = KeptParts()

    async def subscribe(
        self, owner: str, turn_id: str, *, after: Cursor | None = None, from_block: int = 0
    ) -> Subscription:
        """Watch a turn from a cursor on, or from the beginning. Raises NotFound, StoreError."""
        executor = self._registry.get(turn_id)
        if executor is not None and executor.log.head and executor.turn.owner == owner:
            log = executor.log  # a turn that has begun here needs no look at the store
        else:
            turn = await self._store.read(GetTurn(owner=owner, turn_id=turn_id))
            executor = self._registry.get(turn_id)
            if executor is None and turn.status not in TERMINAL_STATUSES:
                await self._recovery.end(turn)
                turn = await self._store.read(GetTurn(owner=owner, turn_id=turn_id))
                executor = self._registry.get(turn_id)
            if executor is not None:
                log = executor.log
            else:
                log = await self._log_of_rows(turn)
                self._registry.measures.catch_ups += (
                    1  # such a log is gone with its watcher, and counts nothing
                )
        self._registry.measures.subscriptions += 1
        archive = StoreArchive(self._store, log, self._encoder, self._kept)
        return Subscription(log, archive, after=after, from_block=from_block)

    async def _log_of_rows(self, turn: Turn) -> TurnLog:
        """The log of a turn that has ended: its blocks are all in the store."""
        total, completed = await self._store.read(CountBlocks(turn_id=turn.id))
        last = turn.last_seq
        log = TurnLog(
            turn.id,
            turn.generation,
            self._encoder(turn.id, turn.generation),
            head=max(last - 1, 0),
        )
        log.fences = tuple(Fence(generation, seq) for generation, seq in turn.fences)
        log.resets = tuple(Reset(seq, index) for seq, index in turn.resets)
        log.start = (min(1, last), start_event(turn))
        log.stored_seq = max(last - 1, 0)
        log.append([terminal_event(turn, total_blocks=total, blocks_completed=completed)])
        return log
