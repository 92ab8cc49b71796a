"""Signals between the nodes that share a database.

a node that shows another node's turns ─► a row, renewed ─► the other node writes its pages more often
a request to stop another node's turn ─► a row ─► the other node stops the turn
"""

from __future__ import annotations

import asyncio
import logging

from turnstream.errors import StoreError
from turnstream.nodes.node import OwnNode
from turnstream.store.base import Store
from turnstream.store.operations.signals import FollowNodes, ForgetStops, ReadSignals
from turnstream.turnlog.pages_feed import PagesFeed
from turnstream.turns.journal import JournalKeeper
from turnstream.turns.registry import Registry

logger = logging.getLogger(__name__)

CHECK_INTERVAL = 0.2
"""Seconds between two reads of the signals, while turns run here."""
FOLLOW_SECONDS = 15.0
"""Seconds for which a node counts as a follower."""


class NodeSignals:
    """Reads the signals to this node, and tells other nodes that this node follows them."""

    def __init__(
        self, store: Store, registry: Registry, node: OwnNode, journal: JournalKeeper, feed: PagesFeed
    ) -> None:
        self._store = store
        self._registry = registry
        self._node = node
        self._journal = journal
        self._feed = feed
        self._announced: dict[str, float] = {}
        """Times at which this node told others that it follows them."""

    async def run(self) -> None:
        """Exchange signals at each interval, until cancelled. Does nothing if there are no other nodes."""
        while self._node.is_shared:
            await asyncio.sleep(CHECK_INTERVAL)
            try:
                await self.exchange()
            except StoreError as error:
                logger.warning("signals of other nodes cannot be exchanged: %s", error)
            except Exception:
                logger.exception("an exchange of signals failed; the next one is tried")

    async def exchange(self) -> None:
        """Send and read signals once. Raises StoreError."""
        await self._announce()
        if not self._registry.active_count:
            return
        signals = await self._store.read(ReadSignals(node=self._node.id))
        self._journal.is_followed = signals.is_followed
        if not signals.stops:
            return
        for turn_id in signals.stops:
            if (executor := self._registry.executor(turn_id)) is not None:
                executor.stop("cancelled")
        await self._store.write(ForgetStops(turn_ids=signals.stops))

    async def _announce(self) -> None:
        now = asyncio.get_running_loop().time()
        followed = self._feed.followed
        self._announced = {node: at for node, at in self._announced.items() if node in followed}
        due = tuple(
            node for node in followed if now - self._announced.get(node, -FOLLOW_SECONDS) > FOLLOW_SECONDS / 3
        )
        if due:
            await self._store.write(FollowNodes(follower=self._node.id, nodes=due, seconds=FOLLOW_SECONDS))
            self._announced.update(dict.fromkeys(due, now))
