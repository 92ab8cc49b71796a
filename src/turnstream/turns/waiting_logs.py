"""Logs of turns that wait for approvals, and locks that order the changes of such a turn in this process.

A waiting turn has no task, and the store numbers its events. Its log is in memory only as long as a watcher
holds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from turnstream.core.turn_events import ApprovalResponse
from turnstream.store.base import Store, TurnRecord
from turnstream.store.queries import GetTurn
from turnstream.turnlog.base import LogState
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.mirror import Mirror
from turnstream.turns.mirrors.states import read_items
from turnstream.turns.model_turns import ModelTurns
from turnstream.turns.registry import Registry


class WaitingLogs:
    """The logs of waiting turns. `locked` orders the changes of one turn."""

    def __init__(self, store: Store, registry: Registry, turns: ModelTurns) -> None:
        self._store = store
        self._registry = registry
        self._turns = turns
        self.mirrored: Callable[[str], TurnLog | None] = lambda _turn_id: None
        """Returns the log of a turn that another node wrote, if watchers hold it, and stops feeding it."""
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def locked(self, turn_id: str) -> AsyncGenerator[None, None]:
        """Lock the turn: no other task of this process makes its log, answers or continues it."""
        lock = self._locks.get(turn_id)
        if lock is None:
            lock = self._locks[turn_id] = asyncio.Lock()
        async with lock:
            executor = self._registry.executor(turn_id)
            if executor is not None and executor.waiting:
                await executor.ended.wait()  # its task is about to return
            yield

    async def watched(self, turn_id: str) -> TurnLog | None:
        """Return the log of a waiting turn for a watcher, or None if the turn does not wait.

        The registry has only a weak reference to the log, so the caller must keep it. Raises NotFound,
        StoreError.
        """
        async with self.locked(turn_id):
            turn = await self._store.read(GetTurn(owner=None, turn_id=turn_id))
            return await self.of(turn) if turn.status == "waiting" else None

    async def of(self, turn: TurnRecord) -> TurnLog:
        """Return the log of a waiting turn. The caller has locked the turn, and then read its row."""
        if (known := self._known(turn.id)) is not None:
            return known
        log = self.mirrored(turn.id)
        if log is None or log.closed:
            log = self._turns.log_of(turn)
        mirror = Mirror(log)
        for item in await read_items(self._store, turn.id):
            mirror.take(item)
        if self._registry.draining:
            log.close()
        else:
            self._registry.waiting_logs[turn.id] = log
        return log

    def show(self, turn_id: str, seq: int, event: ApprovalResponse) -> None:
        """Show a stored event to the watchers of a turn, which the caller has locked."""
        log = self._known(turn_id)
        if log is None:
            return
        if seq == log.head + 1:
            log.event_stored(event)
        else:  # another process has stored events of this turn: watchers read them from the store
            log.skipped_to(LogState(log.generation, max(seq, log.head), log.history, seq))

    def _known(self, turn_id: str) -> TurnLog | None:
        log = self._registry.waiting_logs.get(turn_id)
        return None if log is None or log.closed else log
