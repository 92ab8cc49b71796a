"""Claims of the turns of lapsed nodes.

claim (one transaction) ─► read what the lost executor left ─► recover (one transaction per turn)
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from turnstream.errors import NotFound, StoreError
from turnstream.nodes.lease import MICROSECONDS
from turnstream.nodes.node import OwnNode
from turnstream.store.base import Store
from turnstream.store.nodes import ListNodes
from turnstream.store.operations.nodes import ClaimReleased, ClaimTurns, ReadOwnTurns, RemoveNodes
from turnstream.store.queries import GetTurn
from turnstream.turns.registry import Registry
from turnstream.turns.takeover.recovery import TurnRecovery

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 0.5
"""Seconds between two looks at the other nodes, at most."""
_LOOKS_BETWEEN_SEARCHES = 20
"""Looks after which turns are claimed that belong to no known node."""
_LEASES_KEPT = 10
"""Leases after which the row of a lapsed node without turns is removed."""


class Claiming:
    """Recovers the turns of other nodes, once their leases have lapsed. There is one task for it."""

    def __init__(self, store: Store, node: OwnNode, registry: Registry, recovery: TurnRecovery) -> None:
        self._store = store
        self._node = node
        self._registry = registry
        self._recovery = recovery
        self._looks = 0
        self._is_unsure = False
        """True after a failed write: the database may have given this node a turn all the same."""

    async def run(self) -> None:
        """Look at the other nodes again and again, until cancelled. Does nothing if there are none."""
        if not self._node.is_shared:
            return
        pause = min(LONGEST_PAUSE, self._node.lease.seconds / 10)
        while True:
            await asyncio.sleep(pause)
            try:
                await self.look()
            except StoreError as error:
                self._is_unsure = True
                logger.warning("the turns of lapsed nodes cannot be recovered yet: %s", error)
            except Exception:
                logger.exception("a claim failed; the next one is tried")

    async def look(self) -> int:
        """Claim and recover turns, if this node may. Return the number of recovered turns.

        Raises StoreError.
        """
        if self._registry.draining or not self._node.lease.is_valid:
            return 0
        if self._is_unsure:
            await self._recover_own()
            self._is_unsure = False
        nodes = await self._store.read(ListNodes())
        may_claim = self._node.lease.claim_window() is not None
        is_search = may_claim and self._looks % _LOOKS_BETWEEN_SEARCHES == 0
        self._looks += may_claim
        others = [seen for seen in nodes if seen.record.id != self._node.id]
        if not is_search and not any(seen.is_lapsed or seen.record.state != "running" for seen in others):
            return 0
        if any(seen.record.state == "draining" for seen in others):
            self._registry.began_waiting.set()  # a draining node only stores the answers to approvals
        if (window := self._node.lease.claim_window()) is None:
            claimed = await self._store.write(ClaimReleased(node=self._node.id))
        else:
            claimed = await self._store.write(ClaimTurns(node=self._node.id, **window._asdict()))
        recovered = await self._recovery.recover(claimed)
        if is_search:
            await self._recover_own()
            age = int(_LEASES_KEPT * self._node.lease.seconds * MICROSECONDS)
            for node_id in await self._store.write(RemoveNodes(age=age)):
                logger.info("node %s was removed: it had ended, and has no turns left", node_id)
        return recovered

    async def supersede_claimed(self) -> None:
        """Stop the tasks of turns that other nodes have claimed meanwhile. Raises StoreError."""
        running = [each for each in self._registry.running() if each.writer.committed.is_set()]
        owned = await self._store.write(ReadOwnTurns(node=self._node.id))
        for executor in running:
            if executor.outcome is None and owned.get(executor.turn.id) != executor.turn.generation:
                executor.supersede()

    async def _recover_own(self) -> None:
        """Recover the turns that this node should write, but for which it has no task. Raises StoreError."""
        for turn_id in await self._store.write(ReadOwnTurns(node=self._node.id)):
            if self._registry.get(turn_id) is None:
                with suppress(NotFound):  # deleted meanwhile
                    await self._recovery.end(await self._store.read(GetTurn(owner=None, turn_id=turn_id)))
