"""The heartbeats of this node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from turnstream.errors import StoreError
from turnstream.nodes.lease import MICROSECONDS, ConfirmedHeartbeat, boot_seconds
from turnstream.nodes.node import OwnNode
from turnstream.store.base import NodeState, Store
from turnstream.store.operations.nodes import Heartbeat

logger = logging.getLogger(__name__)


class Heartbeats:
    """Renews the lease of a node that shares its database. Does nothing for a node with its own database.

    Args:
        is_draining: Returns True if this node takes no new turns, and leaves its turns to others. Called at
            each heartbeat.
        on_lapse: Called when a heartbeat succeeds after the lease had lapsed. Nothing is shown before it has
            returned. It may raise StoreError.
    """

    def __init__(
        self,
        store: Store,
        node: OwnNode,
        is_draining: Callable[[], bool],
        on_lapse: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._on_lapse = on_lapse
        self._node = node
        self._is_draining = is_draining
        self._has_ended = False

    async def join(self) -> None:
        """Add this node to those of the database. Raises StoreError."""
        self._node.begin()
        if self._node.is_shared:
            await self._send()
            logger.info("this process is node %s: %s", self._node.id, self._node.address)

    async def run(self) -> None:
        """Send a heartbeat at each interval, until cancelled."""
        while self._node.is_shared:
            await asyncio.sleep(self._node.lease.interval)
            try:
                await self._send()
                if not self._node.lease.is_valid:  # the answer came too late
                    await self._send()
            except StoreError as error:
                logger.warning("a heartbeat could not be stored, the next one is tried: %s", error)
            except Exception:
                logger.exception("a heartbeat failed, the next one is tried")

    async def end(self) -> None:
        """Store that this node has ended: other nodes may claim its unfinished turns at once."""
        if not self._node.is_shared or self._node.lease.deadline < 0:
            return
        self._has_ended = True
        try:
            await self._send()
        except StoreError as error:
            logger.warning("other nodes see the end of this node only after its lease: %s", error)

    def _state(self) -> NodeState:
        if self._has_ended:
            return "ended"
        return "draining" if self._is_draining() else "running"

    async def _send(self) -> None:
        node = self._node
        heartbeat = Heartbeat(
            id=node.id,
            address=node.address,
            lease=int(node.lease.seconds * MICROSECONDS),
            state=self._state(),
        )
        sent = boot_seconds()
        stored = await self._store.write(heartbeat)
        confirmed = ConfirmedHeartbeat(sent, boot_seconds(), stored)
        if node.lease.had_lapsed(confirmed):
            logger.warning("the lease of this node had lapsed: other nodes may have claimed its turns")
            node.measures.lapses += 1
            await self._on_lapse()
        node.lease.renew(confirmed)
