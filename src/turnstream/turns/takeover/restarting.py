"""Turns that begin again on this node, after their own node was lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from turnstream.core.blocks import Block, is_client_call
from turnstream.core.turn_events import BlockReset, Notice
from turnstream.errors import ProviderError, RequestError, Unavailable
from turnstream.model_loop.driver import LoopPosition
from turnstream.nodes.node import OwnNode
from turnstream.store.base import Store, TurnRecord
from turnstream.store.nodes import RECOVERED, CountRecoveries, ListNodes
from turnstream.store.operations.nodes import ResumeClaimed
from turnstream.turnlog.base import LogState
from turnstream.turnlog.log import TurnLog
from turnstream.turns.histories import read_history
from turnstream.turns.model_turns import ModelTurns
from turnstream.turns.new_turns import history_of
from turnstream.turns.registry import Registry

logger = logging.getLogger(__name__)

MOST_RECOVERIES = 2
"""Times that one turn is continued after its node was lost. Then it ends with the text that it has.

Times that its node was stopped as planned do not count.
"""


_RECOVERED = Notice(RECOVERED, "the server that wrote this answer was lost: the answer begins again")
_MOVED = Notice("moved", "the server that wrote this answer was stopped: the answer begins again")


class Restarts:
    """Begins the answers of lost turns again: what was shown is retracted, and the model is called anew.

    Only the first answer of a model without tool calls begins again. A tool would run twice.
    """

    def __init__(self, store: Store, node: OwnNode, registry: Registry, turns: ModelTurns) -> None:
        self._store = store
        self._node = node
        self._registry = registry
        self._turns = turns
        self.mirrored: Callable[[str], TurnLog | None] = lambda _turn_id: None
        """Returns the log of a turn that another node wrote, if watchers hold it, and stops feeding it."""

    async def restart(self, turn: TurnRecord, blocks: Sequence[Block], survived: int) -> bool:
        """Continue a claimed turn with a new executor. Return False if it must end.

        Args:
            blocks: Its stored blocks, and those that the journal kept.
            survived: The last seq of the lost executor that survived.

        Raises StoreError, and Fenced if another node has claimed the turn.
        """
        if turn.tools is None or turn.prev_turn_id is None or any(map(is_client_call, blocks)):
            return False
        notice = _MOVED if await self._was_stopped(turn) else _RECOVERED
        recoveries = await self._store.read(CountRecoveries(turn_id=turn.id))
        if notice is _RECOVERED and recoveries >= MOST_RECOVERIES:
            return False
        try:
            path = await read_history(self._store, turn.prev_turn_id)
            source = await self._turns.continued(turn, path)
            self._registry.admit()
        except (RequestError, ProviderError, Unavailable) as error:
            logger.warning("turn %s cannot begin again, and ends: %s", turn.id, error)
            return False
        logger.warning("turn %s begins again here: %s", turn.id, notice.message)
        # No await may come between these calls: a watcher finds the turn's mirror, or its executor.
        position = _position(blocks, notice)
        executor = self._turns.restarted_executor(turn, self._log_of(turn, survived), position)
        self._registry.reserve(executor, source)
        write = ResumeClaimed(
            turn_id=turn.id, node=self._node.id, generation=turn.generation, fence_seq=survived
        )
        launch = partial(self._registry.launch, executor, source)
        await asyncio.shield(executor.continue_with(self._store.write(write), launch))
        return True

    async def _was_stopped(self, turn: TurnRecord) -> bool:
        """Return True if the turn's node left the turn to others because it was being stopped."""
        nodes = await self._store.read(ListNodes())
        return any(n.record.id == turn.taken_from and n.record.state != "running" for n in nodes)

    def _log_of(self, turn: TurnRecord, survived: int) -> TurnLog:
        """Return the log that the watchers here have, or a new one, at the last event that survived."""
        log = self.mirrored(turn.id)
        if log is not None and not log.closed:
            return log
        lost = msgspec.structs.replace(turn, generation=turn.generation - 1)
        log = self._turns.log_of(lost)
        log.skipped_to(LogState(lost.generation, survived, history_of(lost, survived), survived))
        return log


def _position(blocks: Sequence[Block], notice: Notice) -> LoopPosition:
    after = max((block.sequence + 1 for block in blocks), default=0)
    return LoopPosition(
        sequence=after, step_shown=after > 0, restart=(BlockReset(0, shown=tuple(blocks)), notice)
    )
