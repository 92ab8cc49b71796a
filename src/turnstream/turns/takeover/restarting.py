"""Turns that continue on this node, after their own node was lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec

from turnstream.core.turn_events import Notice
from turnstream.errors import ProviderError, RequestError, Unavailable
from turnstream.model_loop.sources import TurnSource
from turnstream.model_loop.tool_calls import ResumedStep
from turnstream.nodes.node import OwnNode
from turnstream.store.approvals import ApprovalsOfTurn
from turnstream.store.base import OutcomeRecord, Store, TurnRecord
from turnstream.store.journal.items import TurnItems
from turnstream.store.journal.pages import JournalPart
from turnstream.store.ledger.queries import ToolRunsOfTurn
from turnstream.store.nodes import RECOVERED, CountRecoveries, ListNodes
from turnstream.store.operations.nodes import ResumeClaimed
from turnstream.store.operations.progress import SaveStep
from turnstream.turnlog.base import LogState
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.publishing import LogPublisher
from turnstream.turns.ending import LOST_EXECUTOR, LOST_SOURCE, LOST_TOOLS
from turnstream.turns.histories import Path, read_history
from turnstream.turns.model_turns import ModelTurns
from turnstream.turns.new_turns import continued_state, history_of
from turnstream.turns.registry import Registry
from turnstream.turns.takeover.lost_usage import LostCall
from turnstream.turns.takeover.positions import LostPosition, LostTurn, lost_position
from turnstream.turns.takeover.recovery import TurnRecovery
from turnstream.wires.base import StoredAnswer

logger = logging.getLogger(__name__)

MOST_RECOVERIES = 2
"""Times that one turn is continued after its node was lost. Then it ends with the text that it has.

Times that its node was stopped as planned do not count.
"""
MOST_TAKEOVERS = 10
"""Times that one turn is continued in all. The turn's fences count them.

A fence is stored before the turn runs, and the notice later. So this limit also holds for a turn that kills
each node before its notice is stored.
"""
FIRST_STEP = ResumedStep(0)

_BEGINS, _CONTINUES = "the answer begins again", "another server continues it"


class Restarts:
    """Continues lost turns of models: all complete steps stay, and the model is called again for the rest.

    A model that continues its own text gets the text that survived. For any other model, the shown blocks of
    the step are retracted. A tool call that may have run is not run again, unless its tool is idempotent (see
    `tools.ledger`).
    """

    def __init__(
        self, store: Store, node: OwnNode, registry: Registry, turns: ModelTurns, recovery: TurnRecovery
    ) -> None:
        self._store = store
        self._usage, self._answers = recovery.usage, recovery.answers
        self._node = node
        self._registry = registry
        self._turns = turns
        self.mirrored: Callable[[str], TurnLog | None] = lambda _turn_id: None
        """Returns the log of a turn that another node wrote, if watchers hold it, and stops feeding it."""
        self.append: Callable[[Sequence[JournalPart]], Awaitable[None]] | None = None
        """Writes parts to the journal at once. It may raise StoreError. None: there is no journal."""

    async def restart(self, lost: LostTurn) -> OutcomeRecord | None:
        """Continue a claimed turn with a new executor. Return the turn's outcome if it must end, else None.

        Raises StoreError, and Fenced if another node has claimed the turn.
        """
        turn, store = lost.turn, self._store
        if turn.tools is None:
            return LOST_SOURCE
        known = self._turns.tools.tools
        if any(isinstance(tool, str) and tool not in known for tool in turn.tools):
            return LOST_TOOLS
        if len(turn.fences) >= MOST_TAKEOVERS:
            return LOST_EXECUTOR
        was_stopped = await self._was_stopped(turn)
        if not was_stopped and await store.read(CountRecoveries(turn_id=turn.id)) >= MOST_RECOVERIES:
            return LOST_EXECUTOR
        runs = await store.read(ToolRunsOfTurn(turn_id=turn.id))
        approvals = await store.read(ApprovalsOfTurn(turn_id=turn.id))
        idempotent = {name for name, tool in known.items() if tool.idempotent}
        position = lost_position(lost, runs, approvals, idempotent)
        try:
            source, path = await self._source(turn, position)
            account = await self._turns.account_of(turn)
            self._registry.admit()
        except (RequestError, ProviderError, Unavailable) as error:
            logger.warning("turn %s cannot continue, and ends: %s", turn.id, error)
            return LOST_EXECUTOR
        lost_answer = await self._answers.of(turn)
        answer = None
        if lost_answer is not None and lost_answer.step == position.step.number:
            answer = lost_answer
        way = source.continue_step(position.retracted, answer) if position.is_text else None
        continued = lost.opened if way is not None and position.retracted else None
        booked: SaveStep | None = None
        if way == "answer":
            account.attach(block for block in position.retracted if not block.partial)
        if way != "answer" and position.step.calls is None:
            call = LostCall(position.step.number, position.kept, position.retracted, way == "text")
            if await self._usage.count_lost(account, turn, path, call):
                attempts = account.so_far().attempts
                booked = SaveStep(
                    turn_id=turn.id, generation=turn.generation, steps=turn.steps, attempts=attempts
                )
        notice = _notice(position, was_stopped=was_stopped, begins=continued is None)
        logger.warning(
            "turn %s continues here, at step %d: %s", turn.id, position.step.number, notice.message
        )
        # No await may come between these calls: a watcher finds the turn's mirror, or its executor.
        log = self._log_of(turn, lost.survived)
        stays = position.kept if continued is None else (*position.kept, *position.retracted)
        kept = sum(not block.partial for block in stays)
        at = position.for_driver(notice, continued and continued.block, repeats=way == "answer")
        executor = self._turns.next_executor(turn, log, account, at, kept=kept)
        write = ResumeClaimed(
            turn_id=turn.id,
            node=self._node.id,
            generation=turn.generation,
            fence_seq=lost.survived,
            account=booked,
        )
        executor.takeover_part = self._first_part(lost, write, answer if way == "answer" else None)
        self._registry.reserve(executor, source)
        launch = partial(self._registry.launch, executor, source)
        taking = self._take(executor.takeover_part, write)
        await asyncio.shield(executor.continue_with(taking, launch, lost.opened))
        if way != "answer":
            self._answers.cancel(answer)
        return None

    def _first_part(self, lost: LostTurn, write: ResumeClaimed, answer: StoredAnswer | None) -> TurnItems:
        """Return the part of the journal with which the new generation of a turn begins.

        It is the state of the turn's log after the takeover. So another node can continue the turn from
        the pages of this node alone. `answer`: the stored answer that this node reads again, or None.
        """
        log = self._turns.log_of(_before(lost.turn))
        row = msgspec.structs.replace(lost.turn, **write.values(lost.turn.fences))
        log.taken_over(continued_state(row, lost.opened))
        part = LogPublisher().whole_part(log)
        return TurnItems(lost.turn.id, () if part is None else part.items, answer)

    async def _take(self, part: JournalPart, write: ResumeClaimed) -> TurnRecord:
        """Store that this node continues a turn. Raises StoreError.

        The part comes first: from the write on, recovery reads only the pages of this node.
        """
        if self.append is not None:
            await self.append([part])
        return await self._store.write(write)

    async def _source(self, turn: TurnRecord, position: LostPosition) -> tuple[TurnSource, Path]:
        """Return the source of the turn's further steps, and the stored history before them.

        Raises the errors of `ModelTurns.continued`.
        """
        begins = position.step == FIRST_STEP
        path = await read_history(self._store, (turn.prev_turn_id or "") if begins else turn.id)
        return await self._turns.continued(turn, path, None if begins else position.step), path

    async def _was_stopped(self, turn: TurnRecord) -> bool:
        """Return True if the turn's node left the turn to others because it was being stopped."""
        nodes = await self._store.read(ListNodes())
        return any(n.record.id == turn.taken_from and n.record.state != "running" for n in nodes)

    def _log_of(self, turn: TurnRecord, survived: int) -> TurnLog:
        """Return the log that the watchers here have, or a new one, at the last event that survived."""
        log = self.mirrored(turn.id)
        if log is not None and not log.closed:
            return log
        lost = _before(turn)
        log = self._turns.log_of(lost)
        log.skipped_to(LogState(lost.generation, survived, history_of(lost, survived), survived))
        return log


def _before(turn: TurnRecord) -> TurnRecord:
    """Return the row of a claimed turn with the generation before the claim."""
    return msgspec.structs.replace(turn, generation=turn.generation - 1)


def _notice(position: LostPosition, *, was_stopped: bool, begins: bool) -> Notice:
    code, event = ("moved", "stopped") if was_stopped else (RECOVERED, "lost")
    further = _BEGINS if begins and position.step == FIRST_STEP else _CONTINUES
    return Notice(code, f"the server that wrote this answer was {event}: {further}")
