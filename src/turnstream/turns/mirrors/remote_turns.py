"""Stops turns that other nodes write.

a request in a row ─► the turn's node stops the turn      (within a second)
                   └─► no answer: this node claims the turn, and ends it
"""

from __future__ import annotations

import asyncio
import logging

from turnstream.core.lifecycle import has_executor
from turnstream.errors import Fenced, NotFound
from turnstream.nodes.node import OwnNode
from turnstream.store.base import Store, TurnRecord
from turnstream.store.journal.following import ReadHeads, TurnHead, TurnsElsewhere
from turnstream.store.operations.nodes import ClaimTurn
from turnstream.store.operations.signals import RequestStop
from turnstream.store.queries import GetTurn
from turnstream.turns.takeover.recovery import TurnRecovery

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 1.0
"""Seconds that the turn's node has to end the turn."""
ANSWER_PAUSE = 0.05
"""Seconds between two looks at the turn."""
_MOST_CLAIMS = 3
"""Claims of one turn before this node gives up. Each fails only because another node has just claimed it."""


class RemoteTurns:
    """The turns that other nodes write, for commands of this node."""

    def __init__(self, store: Store, node: OwnNode, recovery: TurnRecovery) -> None:
        self._store = store
        self._node = node
        self._recovery = recovery

    def is_elsewhere(self, turn: TurnRecord) -> bool:
        """Return True if another node writes the turn, or has released it for any node to claim."""
        if not self._node.is_shared or not has_executor(turn.status):
            return False
        return turn.taken_from is not None if turn.node is None else turn.node != self._node.id

    async def stop(self, turn: TurnRecord) -> None:
        """Stop a turn, and wait for its end. Does nothing if no other node writes it. Raises StoreError."""
        for _ in range(_MOST_CLAIMS):
            if not self.is_elsewhere(turn):
                return
            if turn.node is None or not await self._is_stopped(turn.id, turn.node):
                await self._claim(turn)
            try:
                turn = await self._store.read(GetTurn(owner=None, turn_id=turn.id))
            except NotFound:
                return

    async def stop_all(self, chat_id: str) -> None:
        """Stop all turns of a chat that other nodes write. Raises StoreError."""
        if not self._node.is_shared:
            return
        turns = await self._store.read(TurnsElsewhere(chat_id=chat_id, node=self._node.id))
        await asyncio.gather(*(self.stop(turn) for turn in turns))

    async def _is_stopped(self, turn_id: str, node: str) -> bool:
        """Ask a node to stop a turn. Return False if it does not answer in time."""
        await self._store.write(RequestStop(turn_id=turn_id, node=node))
        deadline = asyncio.get_running_loop().time() + ANSWER_SECONDS
        while (head := await self._head(turn_id)) is not None and has_executor(head.status):
            if head.node != node:
                return True  # another node has claimed it: `stop` looks again
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(ANSWER_PAUSE)
        return True

    async def _claim(self, turn: TurnRecord) -> None:
        """Claim a turn, whatever the lease of its node, and end it as cancelled."""
        logger.warning("turn %s: its node %s does not stop it; this node ends it", turn.id, turn.node)
        claim = ClaimTurn(turn_id=turn.id, node=self._node.id, generation=turn.generation)
        try:
            claimed = await self._store.write(claim)
        except Fenced:
            return
        await self._recovery.cancel(claimed)  # the request stays: a node that slept reads it and stops

    async def _head(self, turn_id: str) -> TurnHead | None:
        heads = await self._store.read(ReadHeads(turn_ids=(turn_id,)))
        return heads.get(turn_id)
