"""The executors of this process: those at work, and for a while those that have ended."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from heapq import heapify, heappop, heappush
from time import monotonic
from typing import NamedTuple
from weakref import WeakValueDictionary

import msgspec

from turnstream.core.turn_events import Notice
from turnstream.core.usage import StepUsage, Usage
from turnstream.errors import StoreError, Unavailable
from turnstream.model_loop.sources import TurnSource
from turnstream.store.base import Store, TurnRecord
from turnstream.store.journal.pages import JournalSegment
from turnstream.telemetry import turn_context
from turnstream.telemetry.measures import TurnMeasures
from turnstream.turnlog.ended_turns import EndedTurn, flattened
from turnstream.turnlog.log import TurnLog
from turnstream.turns.executor import Executor

logger = logging.getLogger(__name__)

DRAINING = Notice(
    "draining", "the server is being stopped; when the connection closes, resume with your last id"
)
MAX_RETAINED = 10_000
MAX_RETAINED_BYTES = 64 * 1024 * 1024
"""Memory that ended turns may keep, by number and in bytes; the oldest go first. A watcher of one that is gone reads from
the store."""
SWEEP_INTERVAL = 1.0
_ENDED_ORPHANS = 256
"""Turns that have ended among those that are to be looked at for silence, before they are taken out."""


class _UnsavedEnd(NamedTuple):
    size: int
    executor: Executor


class Registry:
    """Owns the executors' tasks. `retention`, `orphan_timeout`: seconds."""

    def __init__(
        self,
        store: Store,
        *,
        max_active: int = 10_000,
        retention: float = 600.0,
        orphan_timeout: float = 300.0,
    ) -> None:
        self.draining = False
        self.measures = TurnMeasures()
        self._store = store
        self._max_active = max_active
        self._retention = retention
        self._orphan_timeout = orphan_timeout
        self._active: dict[str, Executor] = {}
        self._lost: dict[str, Executor] = {}
        """Executors whose task has died before the end of their turn, which is to be written yet."""
        self._unsaved: dict[str, _UnsavedEnd] = {}
        """Executors of turns whose end storage has refused, oldest first."""
        self._ended: OrderedDict[str, EndedTurn] = OrderedDict()
        """Turns whose end is stored, oldest first."""
        self._held: WeakValueDictionary[str, Executor] = WeakValueDictionary()
        """Executors of ended turns that somebody holds on to: they go on to stand for their turns."""
        self._retained_bytes = 0
        self._orphans: list[tuple[float, str]] = []
        """A heap of the times at which turns at work have to be looked at for silence."""
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def active_count(self) -> int:
        return len(self._active)

    @property
    def retained_turns(self) -> int:
        """Ended turns that are kept in memory."""
        return len(self._ended) + len(self._unsaved)

    @property
    def retained_bytes(self) -> int:
        """Bytes that they take, as they are counted against MAX_RETAINED_BYTES."""
        return self._retained_bytes

    def get(self, turn_id: str) -> Executor | EndedTurn | None:
        """Return what is here of a turn that is at work here, or has ended here not long ago."""
        return self.executor(turn_id) or self._held.get(turn_id) or self._ended.get(turn_id)

    def executor(self, turn_id: str) -> Executor | None:
        """Return the executor of a turn whose end is not stored yet."""
        if (executor := self._active.get(turn_id)) is not None:
            return executor
        unsaved = self._unsaved.get(turn_id)
        return unsaved.executor if unsaved is not None else None

    def admit(self) -> None:
        """Raises Unavailable when no more turns may start: draining, or too many at work."""
        if self.draining:
            raise Unavailable("the server is being stopped: try again in a moment", code="draining")
        if len(self._active) >= self._max_active:
            raise Unavailable(f"{self._max_active} turns are being written already: try again later")

    def reserve(self, executor: Executor, source: TurnSource) -> None:
        """Count an executor as at work, and keep it until it has ended. Raises Unavailable."""
        self.admit()
        executor.own(source, partial(self._retire, executor))
        self._active[executor.turn.id] = executor
        self._idle.clear()
        self._watch_silence(executor)

    def _watch_silence(self, executor: Executor) -> None:
        heappush(self._orphans, (executor.progress.last + self._orphan_timeout, executor.turn.id))
        if len(self._orphans) > 2 * len(self._active) + _ENDED_ORPHANS:  # most of them have ended since
            self._orphans = [entry for entry in self._orphans if entry[1] in self._active]
            heapify(self._orphans)

    def launch(self, executor: Executor, source: TurnSource) -> None:
        """Start the task of an executor that was reserved."""
        # The task takes this context over: whatever it logs is known to be this turn's.
        turn_context(executor.turn.id, executor.turn.generation).run(executor.start, source)

    def _retire(self, executor: Executor) -> None:
        """Note that an executor is no longer at work. One that has died without an end is kept until its turn is ended;
        its watchers are sent away, to come again."""
        turn_id = executor.turn.id
        was_here = self._active.pop(turn_id, None) or self._lost.pop(turn_id, None)
        if not self._active:
            self._idle.set()
        if was_here is None:
            return
        if executor.log.terminal is None:
            executor.log.close()
            if executor.abandoned:
                self._count_log(executor.log)
            else:
                logger.warning("turn %s lost its task; it will be ended", turn_id)
                self._lost[turn_id] = executor
        else:
            self._count_turn(executor)
            if executor.unsaved is None:
                self._keep(executor)
            else:
                unsaved = self._unsaved[turn_id] = _UnsavedEnd(_size_of(executor), executor)
                self._retained_bytes += unsaved.size
                self._evict()

    def _keep(self, executor: Executor) -> None:
        """Keep what watchers need of a turn whose end is stored, and nothing else."""
        turn_id = executor.turn.id
        ended = flattened(executor.log, executor.turn.owner, monotonic())
        self._count_log(executor.log)
        self._ended[turn_id] = ended
        self._held[turn_id] = executor
        self._retained_bytes += ended.size
        self._evict()

    def _evict(self) -> None:
        """Forget the oldest turns beyond the bounds; those that the store does not have are the last to go."""
        while self._retained_bytes > MAX_RETAINED_BYTES or self.retained_turns > MAX_RETAINED:
            self.forget(next(iter(self._ended or self._unsaved)))

    async def end_lost(self, turn_id: str) -> bool:
        """End a turn whose task has died here, stored and shown. Return False if there is none."""
        if (executor := self._lost.get(turn_id)) is None:
            return False
        await executor.end_lost()
        return True

    def forget(self, turn_id: str) -> None:
        """Drop an executor that is no longer at work: the store has what it said."""
        if (lost := self._lost.pop(turn_id, None)) is not None:
            self._count_log(lost.log)
        if (unsaved := self._unsaved.pop(turn_id, None)) is not None:
            self._retained_bytes -= unsaved.size
            self._count_log(unsaved.executor.log)
        if (ended := self._ended.pop(turn_id, None)) is not None:
            self._retained_bytes -= ended.size
            self._held.pop(turn_id, None)

    def logs(self) -> Iterator[TurnLog]:
        """The logs of all executors that are still here."""
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
            _count_usage(measures, turn)

    def _count_log(self, log: TurnLog) -> None:
        """Take over what a log has counted, before it goes."""
        self.measures.coalesced += log.ring.coalesced
        self.measures.catch_ups += log.catch_ups

    def active_in(self, chat_id: str) -> list[Executor]:
        """The executors at work in one chat."""
        return [executor for executor in self._active.values() if executor.turn.chat_id == chat_id]

    def journal_segments(self, *, whole: bool = False) -> Iterator[JournalSegment]:
        """What the open blocks of all turns have gained since the last call; `whole`: all that they hold, and those of turns
        whose end storage refused. Turns may come and go meanwhile."""
        executors = [*self._active.values(), *self._lost.values()]
        if whole:
            executors.extend(unsaved.executor for unsaved in self._unsaved.values())
        for executor in executors:
            segment = executor.journal_segment(whole=whole)
            if segment is not None:
                yield segment

    async def run_sweeps(self) -> None:
        """Sweep once a second until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            try:
                await self.sweep(monotonic())
            except Exception:
                logger.exception("a sweep failed; the next one comes")

    async def sweep(self, now: float) -> None:
        """End turns that fell silent, store ends that storage had refused, forget what ended long ago."""
        self._end_orphans(now)
        await self._end_all_lost()
        await self._save_ends()
        while self._ended:
            turn_id, ended = next(iter(self._ended.items()))
            if now - ended.at < self._retention:
                break
            self.forget(turn_id)

    def _end_orphans(self, now: float) -> None:
        """Stop the turns that have been silent for too long. Each is looked at when its silence may have become so."""
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
        """Start no more turns; give those at work `grace` seconds; end the rest with what they have. All watchers are
        told first, and may resume at another process or after the restart."""
        self.draining = True
        for executor in self._active.values():
            executor.notify(DRAINING)
        try:
            await asyncio.wait_for(self._idle.wait(), grace)
        except TimeoutError:
            logger.warning("ending %d turns that did not finish within %.1f s", len(self._active), grace)
            await self.stop_all()

    async def stop_all(self) -> None:
        """End every turn now, its partial kept. Storage has its own deadlines, so this ends."""
        self.draining = True
        executors = list(self._active.values())
        for executor in executors:
            executor.stop("shutdown")
        await asyncio.gather(*(executor.ended.wait() for executor in executors))
        await self._end_all_lost()
        await self._save_ends()


def _count_usage(measures: TurnMeasures, turn: TurnRecord) -> None:
    """Each step to its own model; where the steps are not known, the turn to its model."""
    for step in turn.steps or (StepUsage(0, turn.model, turn.usage, turn.cost),):
        model = measures.of_model(step.model)
        model.calls += 1
        if step.cost is not None:
            model.cost += Decimal(step.cost)
        else:
            model.unpriced += 1
        for kind, count in zip(
            step.usage.__struct_fields__, msgspec.structs.astuple(step.usage), strict=True
        ):
            if count:
                model.tokens[kind] = model.tokens.get(kind, 0) + count


def _size_of(executor: Executor) -> int:
    """Estimated bytes that an executor holds whose end is not stored."""
    blocks = executor.unsaved.blocks if executor.unsaved is not None else ()
    return executor.log.ring.size + sum(len(row.block.text_content or "") for row in blocks)
