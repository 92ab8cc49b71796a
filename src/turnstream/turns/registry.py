"""The executors of this process: those of running turns, and for some time those of ended turns."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from heapq import heapify, heappop, heappush
from math import inf
from time import monotonic
from typing import Literal, NamedTuple
from weakref import WeakValueDictionary

from turnstream.core.usage import Usage
from turnstream.errors import StoreError, Unavailable
from turnstream.model_loop.sources import TurnSource
from turnstream.nodes.lease import Lease
from turnstream.store.journal.pages import JournalPart
from turnstream.store.transient.turns import TransientTurns
from turnstream.telemetry import turn_context
from turnstream.telemetry.measures import TurnMeasures
from turnstream.turnlog.ended_turns import EndedTurn, flattened
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.publishing import LogPublisher
from turnstream.turnlog.subscription import DRAINING
from turnstream.turns.ending import count_usage
from turnstream.turns.executor import Executor

logger = logging.getLogger(__name__)

MAX_RETAINED = 10_000
MAX_RETAINED_BYTES = 64 * 1024 * 1024
"""Limits of the ended turns in memory: their number and their bytes. The oldest are evicted first.

Watchers of an evicted turn read from the store.
"""
SWEEP_INTERVAL = 1.0
_ENDED_ORPHANS = 256
"""Entries of ended turns that may stay in the heap of silence checks before it is cleaned."""


class _UnsavedEnd(NamedTuple):
    """An executor whose end storage refused, and its size in bytes."""

    size: int
    executor: Executor


class Registry:
    """Owns the executors and their tasks.

    Args:
        max_active: Turns that may run at a time.
        retention: Seconds that ended turns stay in memory.
        orphan_timeout: Seconds of silence after which a turn is stopped.
        transient: The turns without rows.
    """

    def __init__(
        self,
        *,
        max_active: int = 10_000,
        retention: float = 600.0,
        orphan_timeout: float = 300.0,
        transient: TransientTurns | None = None,
    ) -> None:
        self.draining = False
        self.publishes = False
        """True if the journal has all events of turns, because other nodes may follow."""
        self.lease = Lease(inf)
        """The lease of this process. Without it, no turn starts."""
        self.on_turn_end: Callable[[str], None] = lambda _turn_id: None
        """Called with the id of each turn whose end is stored."""
        self.hand_over: Callable[[Literal["all", "smooth"]], Awaitable[bool]] | None = None
        """Leaves all turns, or the silent ones, to other nodes. Returns False if there is no other node."""
        self.adopt: Callable[[TurnLog], bool] = lambda _log: False
        """Feeds the log of a turn that another node has claimed. Returns False if it cannot be fed."""
        self.on_withdrawal: Callable[[], None] = lambda: None
        """Called when a provider has withdrawn blocks of a turn."""
        self.measures = TurnMeasures()
        self.transient = TransientTurns() if transient is None else transient
        self._max_active = max_active
        self._retention = retention
        self._orphan_timeout = orphan_timeout
        self._last_parts: deque[JournalPart] = deque(maxlen=MAX_RETAINED)
        """Last parts of turns that have ended since the journal was written. Other nodes also know the end of
        a turn from its row."""
        self._active: dict[str, Executor] = {}
        self._lost: dict[str, Executor] = {}
        """Executors whose task died before their turn ended. The end is still to be written."""
        self._unsaved: dict[str, _UnsavedEnd] = {}
        """Executors of turns whose end storage refused, oldest first."""
        self._ended: OrderedDict[str, EndedTurn] = OrderedDict()
        """Turns whose end is stored, oldest first."""
        self._held: WeakValueDictionary[str, Executor] = WeakValueDictionary()
        """Executors of ended turns that are still referenced elsewhere.

        `get` returns them for their turns.
        """
        self.waiting_logs: WeakValueDictionary[str, TurnLog] = WeakValueDictionary()
        """Logs of waiting turns, as long as watchers hold them."""
        self.began_waiting = asyncio.Event()
        """Set when a turn begins to wait for approvals."""
        self._retained_bytes = 0
        self._orphans: list[tuple[float, str]] = []
        """Heap of the times at which running turns must be checked for silence."""
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def active_count(self) -> int:
        """Number of running turns."""
        return len(self._active)

    @property
    def retained_turns(self) -> int:
        """Ended turns that are kept in memory."""
        return len(self._ended) + len(self._unsaved)

    @property
    def retained_bytes(self) -> int:
        """Bytes of the ended turns in memory, as counted against MAX_RETAINED_BYTES."""
        return self._retained_bytes

    def get(self, turn_id: str) -> Executor | EndedTurn | None:
        """Return the executor or the kept log of a turn that runs here or ended here recently, or None."""
        return self.executor(turn_id) or self._held.get(turn_id) or self._ended.get(turn_id)

    def executor(self, turn_id: str) -> Executor | None:
        """Return the executor of a turn whose end is not stored yet, or None."""
        if (executor := self._active.get(turn_id)) is not None:
            return executor
        unsaved = self._unsaved.get(turn_id)
        return unsaved.executor if unsaved is not None else None

    def admit(self, count: int = 1) -> None:
        """Raise Unavailable if `count` turns may not start: the server drains, or too many are running."""
        if not self.lease.is_valid:
            raise Unavailable("the database does not confirm that this server lives: try again in a moment")
        if self.draining:
            raise Unavailable("the server is being stopped: try again in a moment", code="draining")
        if len(self._active) + count > self._max_active:
            raise Unavailable(f"{self._max_active} turns are being written already: try again later")

    def reserve(self, executor: Executor, source: TurnSource, *, ends: bool = False) -> None:
        """Count an executor as running, and keep it until it has ended. Raises Unavailable.

        Args:
            ends: True if the turn only ends. Then there is always room.
        """
        if not ends:
            self.admit()
        executor.own(source, partial(self._retire, executor))
        if self.publishes:
            executor.writer.journal = LogPublisher()
        executor.writer.on_withdrawal = self.on_withdrawal
        self._active[executor.turn.id] = executor
        self._idle.clear()
        self._watch_silence(executor)

    def _watch_silence(self, executor: Executor) -> None:
        heappush(self._orphans, (executor.progress.last + self._orphan_timeout, executor.turn.id))
        if len(self._orphans) > 2 * len(self._active) + _ENDED_ORPHANS:  # most entries are of ended turns
            self._orphans = [entry for entry in self._orphans if entry[1] in self._active]
            heapify(self._orphans)

    def launch(self, executor: Executor, source: TurnSource) -> None:
        """Start the task of a reserved executor."""
        # The task inherits this context, so that its log lines carry the turn's id.
        turn_context(executor.turn.id, executor.turn.generation).run(executor.start, source)

    def _retire(self, executor: Executor) -> None:
        """Remove an executor from the running ones.

        An executor that died before its turn ended is kept until the turn is ended. Its log is closed, so its
        watchers reconnect.
        """
        turn_id = executor.turn.id
        was_here = self._active.pop(turn_id, None) or self._lost.pop(turn_id, None)
        if not self._active:
            self._idle.set()
        if was_here is None:
            return
        is_published = self.publishes and executor.is_stored and not executor.superseded
        if is_published and (part := executor.journal_part()) is not None:
            self._last_parts.append(part)
        if executor.waiting:
            self._note_waiting(executor)
        elif executor.log.terminal is None:
            if not executor.superseded or self.draining or not self.adopt(executor.log):
                executor.log.close()
            if executor.abandoned or executor.superseded:
                self._count_log(executor.log)
            else:
                logger.warning("turn %s lost its task; it will be ended", turn_id)
                self._lost[turn_id] = executor
        else:
            self._count_turn(executor)
            if executor.unsaved is None:
                self._keep(executor)
            else:
                unsaved = self._unsaved[turn_id] = _UnsavedEnd(executor.unsaved_bytes, executor)
                self._retained_bytes += unsaved.size
                self._evict()

    def _note_waiting(self, executor: Executor) -> None:
        """Drop the executor of a turn that waits for approvals. Its watchers keep the log."""
        self.waiting_logs[executor.turn.id] = executor.log
        if self.draining:
            executor.log.close()
        self.began_waiting.set()

    def close_waiting(self) -> None:
        """Disconnect the watchers of waiting turns. They may resume at another process."""
        for log in list(self.waiting_logs.values()):
            log.close()

    def _keep(self, executor: Executor) -> None:
        """Keep an ended turn for its watchers. A stored turn is kept as a flat log."""
        turn_id = executor.turn.id
        self._count_log(executor.log)
        if not executor.is_stored:
            self.transient.end(turn_id, monotonic())
            self.on_turn_end(turn_id)
            return
        ended = flattened(executor.log, executor.turn.owner, monotonic())
        self._ended[turn_id] = ended
        self._held[turn_id] = executor
        self._retained_bytes += ended.size
        self._evict()
        self.on_turn_end(turn_id)

    def _evict(self) -> None:
        """Evict the oldest turns beyond the limits. Turns whose end is not stored are evicted last."""
        while self._retained_bytes > MAX_RETAINED_BYTES or self.retained_turns > MAX_RETAINED:
            self.forget(next(iter(self._ended or self._unsaved)))

    async def end_lost(self, turn_id: str) -> bool:
        """End a turn whose task has died here: store and show the end. Return False if there is none."""
        if (executor := self._lost.get(turn_id)) is None:
            return False
        await executor.end_lost()
        return True

    def forget(self, turn_id: str) -> None:
        """Drop a turn that is not running."""
        self.transient.drop(turn_id)
        if (waiting := self.waiting_logs.pop(turn_id, None)) is not None:
            waiting.close()
        if (lost := self._lost.pop(turn_id, None)) is not None:
            self._count_log(lost.log)
        if (unsaved := self._unsaved.pop(turn_id, None)) is not None:
            self._retained_bytes -= unsaved.size
            self._count_log(unsaved.executor.log)
        if (ended := self._ended.pop(turn_id, None)) is not None:
            self._retained_bytes -= ended.size
            self._held.pop(turn_id, None)

    def logs(self) -> Iterator[TurnLog]:
        """Yield the logs of all executors that are still here."""
        for executor in (*self._active.values(), *self._lost.values()):
            yield executor.log
        for unsaved in self._unsaved.values():
            yield unsaved.executor.log

    def _count_turn(self, executor: Executor) -> None:
        turn, log, measures = executor.turn, executor.log, self.measures
        measures.count_end(turn.status, turn.error_code)
        if log.first_block_at is not None:
            measures.first_token.observe(log.first_block_at - log.made_at)
        if turn.usage != Usage():
            count_usage(measures, turn)

    def _count_log(self, log: TurnLog) -> None:
        """Add the counts of a log to the measures, before the log is dropped."""
        self.measures.coalesced += log.ring.coalesced
        self.measures.catch_ups += log.catch_ups

    def running(self) -> list[Executor]:
        """Return the executors of the running turns that have rows."""
        return [executor for executor in self._active.values() if executor.is_stored]

    def active_in(self, chat_id: str) -> list[Executor]:
        """Return the running executors of a chat."""
        return [executor for executor in self._active.values() if executor.turn.chat_id == chat_id]

    def journal_parts(self, *, whole: bool = False) -> Iterator[JournalPart]:
        """Yield what the journal needs of all turns since the last call. Turns may start and end meanwhile.

        Args:
            whole: Yield all that the store does not have, and include turns whose end storage refused.
        """
        while self._last_parts:
            yield self._last_parts.popleft()
        executors = [*self._active.values(), *self._lost.values()]
        if whole:
            executors.extend(unsaved.executor for unsaved in self._unsaved.values())
        for executor in executors:
            if not executor.is_stored:
                continue
            part = executor.journal_part(whole=whole)
            if part is not None:
                yield part

    async def run_sweeps(self) -> None:
        """Sweep once a second until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            try:
                await self.sweep(monotonic())
            except Exception:
                logger.exception("a sweep failed; the next one runs as planned")

    async def sweep(self, now: float) -> None:
        """End silent turns, store ends that storage had refused, and drop turns that ended long ago."""
        self._end_orphans(now)
        await self._end_all_lost()
        await self._save_ends()
        self.transient.sweep(now)
        while self._ended:
            turn_id, ended = next(iter(self._ended.items()))
            if now - ended.at < self._retention:
                break
            self.forget(turn_id)

    def _end_orphans(self, now: float) -> None:
        """Stop the turns that have been silent for too long.

        Each turn is checked only when its time may be up.
        """
        orphans = self._orphans
        later: list[tuple[float, str]] = []
        while orphans and orphans[0][0] <= now:
            _, turn_id = heappop(orphans)
            if (executor := self._active.get(turn_id)) is None:
                continue
            silent_until = executor.progress.last + self._orphan_timeout
            if executor.progress.runs_tools or now <= silent_until:
                later.append((max(silent_until, now + SWEEP_INTERVAL), turn_id))
            else:
                logger.warning("turn %s was silent for %.0f s: ending it", turn_id, self._orphan_timeout)
                executor.stop("orphaned")
        for entry in later:
            heappush(orphans, entry)

    async def _end_all_lost(self) -> None:
        await asyncio.gather(*(executor.end_lost() for executor in list(self._lost.values())))

    async def _save_ends(self) -> None:
        await asyncio.gather(*(self._save_end(unsaved) for unsaved in list(self._unsaved.values())))

    async def _save_end(self, unsaved: _UnsavedEnd) -> None:
        executor = unsaved.executor
        try:
            await executor.save_end()
        except StoreError as error:
            logger.warning("turn %s: its end still cannot be stored: %s", executor.turn.id, error)
            return
        if self._unsaved.pop(executor.turn.id, None) is not None:
            self._retained_bytes -= unsaved.size
            self._keep(executor)

    async def drain(self, grace: float) -> None:
        """Start no more turns, wait for the running ones, and end the rest with the text they have.

        All watchers get a notice first. They may resume at another process, or here after the restart. Turns
        that move smoothly (`Executor.moves_smoothly`) go to another node at once, if there is one.

        Args:
            grace: Seconds to wait for running turns.
        """
        self.draining = True
        for executor in self._active.values():
            executor.notify(DRAINING)
        if grace and self.hand_over is not None and await self.hand_over("smooth"):
            self.close_waiting()
        try:
            await asyncio.wait_for(self._idle.wait(), grace)
        except TimeoutError:
            logger.warning("ending %d turns that did not finish within %.1f s", len(self._active), grace)
            await self.stop_all()
        self.close_waiting()

    async def stop_all(self) -> None:
        """End every turn now, and keep its partial text. Waiting turns stay as they are.

        It returns in any case: storage has its own deadlines.
        """
        self.draining = True
        if self.hand_over is not None:
            await self.hand_over("all")
        executors = list(self._active.values())
        for executor in executors:
            executor.stop("shutdown")
        await asyncio.gather(*(executor.ended.wait() for executor in executors))
        self.close_waiting()
        await self._end_all_lost()
        await self._save_ends()
