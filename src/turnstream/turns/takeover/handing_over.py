"""Turns that a node leaves to other nodes when it stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from turnstream.errors import StoreError
from turnstream.nodes.node import OwnNode
from turnstream.store.base import Store
from turnstream.store.journal.pages import JournalPart
from turnstream.store.nodes import ListNodes
from turnstream.store.operations.nodes import BeginDrain, ReleaseTurn
from turnstream.turns.executor import Executor
from turnstream.turns.registry import Registry

logger = logging.getLogger(__name__)

_AT_ONCE = 256
"""Turns that are stopped and released together: one page of the journal, and one group of writes."""


class HandOver:
    """Leaves the turns of models to other nodes, which continue them."""

    def __init__(self, store: Store, node: OwnNode, registry: Registry) -> None:
        self._store = store
        self._node = node
        self._registry = registry
        self.append: Callable[[Sequence[JournalPart]], Awaitable[None]] | None = None
        """Writes parts to the journal at once. It may raise StoreError. None: there is no journal."""
        self._leaving: asyncio.Task[None] | None = None
        """Task that leaves the last group of turns."""

    async def run(self, which: Literal["all", "smooth"]) -> bool:
        """Hand over the running turns that another node can continue.

        `smooth` leaves out the turns whose watchers would notice it (`Executor.moves_smoothly`), and moves
        none without the lease. Return False if there is no other node.

        If the database fails, `all` stops the turns without an end. Then other nodes, or this one after its
        restart, continue them once the lease has lapsed.

        If the caller is cancelled, turns that are stopped are released all the same, and the next call waits
        for that.
        """
        if self._leaving is not None:
            await asyncio.wait([self._leaving])
        lease = self._node.lease
        if not self._node.is_shared or (which == "smooth" and not lease.is_valid):
            return False
        try:
            if not await self._has_others():
                return False
            await self._store.write(BeginDrain(node=self._node.id))
            moving = self._moving(which)
            for start in range(0, len(moving), _AT_ONCE):
                await self._leave_together(moving[start : start + _AT_ONCE])
        except StoreError as error:
            logger.warning("other nodes take the turns over only after the lease of this node: %s", error)
            if which == "all":
                for executor in self._moving(which):
                    executor.release()
        return True

    async def _has_others(self) -> bool:
        """Return True if another node runs. Raises StoreError.

        The leases of all nodes lapse while the database is away. So a node without its own lease does not
        take a node for lost whose lease has lapsed too.
        """
        others = [node for node in await self._store.read(ListNodes()) if node.record.id != self._node.id]
        is_valid = self._node.lease.is_valid
        return any(node.record.state == "running" and not (is_valid and node.is_lapsed) for node in others)

    def _moving(self, which: Literal["all", "smooth"]) -> list[Executor]:
        running = self._registry.running()
        return [turn for turn in running if is_movable(turn) and (which == "all" or turn.moves_smoothly)]

    async def _leave_together(self, moving: Sequence[Executor]) -> None:
        """Leave some turns in a task of its own: a second signal cancels the drain, but not this."""
        leaving = asyncio.get_running_loop().create_task(self._leave(moving), name="turnstream hand-over")
        self._leaving = leaving
        await asyncio.shield(leaving)

    async def _leave(self, moving: Sequence[Executor]) -> None:
        """Stop some turns, write all that their watchers have seen to the journal, and release the turns.

        Each of the writes has the store's deadline.
        """
        parts: list[JournalPart] = []
        for executor in moving:
            executor.release()
            # There is no await after the release, so the watchers have seen no more than this part.
            if (part := executor.journal_part()) is not None:
                parts.append(part)
        if parts and self.append is not None:
            try:
                await self.append(parts)
            except StoreError as error:
                logger.warning("watchers may miss text of the turns that are handed over: %s", error)
        await asyncio.gather(*map(self._release, moving))

    async def _release(self, executor: Executor) -> None:
        turn = executor.turn
        release = ReleaseTurn(turn_id=turn.id, node=self._node.id, generation=turn.generation)
        try:
            await self._store.write(release)
        except StoreError as error:
            logger.warning("turn %s moves only after the lease of this node: %s", turn.id, error)


def is_movable(executor: Executor) -> bool:
    """Return True if another node can continue the turn: a model answers it."""
    return executor.turn.tools is not None and executor.writer.committed.is_set() and executor.outcome is None
