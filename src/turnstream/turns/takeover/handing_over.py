"""Turns that a node which stops leaves to the other nodes."""

from __future__ import annotations

import logging

from turnstream.errors import StoreError
from turnstream.nodes.node import OwnNode
from turnstream.store.base import Store
from turnstream.store.nodes import ListNodes
from turnstream.store.operations.nodes import BeginDrain, ReleaseTurn
from turnstream.turns.executor import Executor
from turnstream.turns.registry import Registry

logger = logging.getLogger(__name__)


class HandOver:
    """Leaves the turns of models to other nodes, which continue them."""

    def __init__(self, store: Store, node: OwnNode, registry: Registry) -> None:
        self._store = store
        self._node = node
        self._registry = registry

    async def run(self) -> None:
        """Hand over the running turns that another node can continue, if there is such a node."""
        if not self._node.is_shared or not self._node.lease.is_valid:
            return
        try:
            nodes = await self._store.read(ListNodes())
            own = self._node.id
            if not any(n.record.state == "running" and not n.is_lapsed for n in nodes if n.record.id != own):
                return
            await self._store.write(BeginDrain(node=own))
            for executor in self._registry.running():
                if is_movable(executor):
                    executor.supersede()
                    turn = executor.turn
                    await self._store.write(
                        ReleaseTurn(turn_id=turn.id, node=own, generation=turn.generation)
                    )
        except StoreError as error:
            logger.warning("turns could not be handed over, and others continue them later: %s", error)


def is_movable(executor: Executor) -> bool:
    """Return True if another node can continue the turn: a model answers it."""
    return executor.turn.tools is not None and executor.writer.committed.is_set() and executor.outcome is None
