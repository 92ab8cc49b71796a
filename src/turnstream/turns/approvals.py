"""Approvals of tool calls: answers, their expiry, and the continuation of the turns that wait for them.

a step's call needs an approval ─► the turn waits: rows, and no task
    an answer, or the expiry ─► stored with its event ─► shown to watchers
    the last answer ─► another executor takes the turn over: approved calls run, denied calls are errors
    an interrupt ─► another executor takes the turn over, and ends it
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from turnstream.core.blocks import Block
from turnstream.core.stream_events import MessageStop
from turnstream.errors import (
    Conflict,
    Fenced,
    NotFound,
    ProviderError,
    RequestError,
    StoreError,
    TurnstreamError,
    Unavailable,
)
from turnstream.model_loop.position import LoopPosition
from turnstream.model_loop.sources import Batches, Stream, TurnSource
from turnstream.model_loop.tool_calls import ResumedStep
from turnstream.store.approvals import ApprovalsOfTurn, FindDueApprovals, WaitingTurnsOf
from turnstream.store.base import ApprovalRecord, Store, TurnRecord
from turnstream.store.operations.approvals import AnswerApproval, ContinueTurn, ExpireApproval
from turnstream.store.queries import GetTurn
from turnstream.tools.asking import ApprovalAnswer
from turnstream.turns.clock import now_microseconds
from turnstream.turns.executor import Executor
from turnstream.turns.histories import Path, read_history
from turnstream.turns.model_turns import ModelTurns
from turnstream.turns.registry import Registry
from turnstream.turns.takeover.positions import resumed_step, unanswered_calls
from turnstream.turns.takeover.recovery import TurnRecovery
from turnstream.turns.waiting_logs import WaitingLogs

logger = logging.getLogger(__name__)

BATCH_SIZE = 100
"""Approvals, and as many turns, that one check reads from the store."""
MAX_PAUSE = 60.0
"""Seconds between two checks at most, even if no approval expires."""
RETRY_PAUSE = 1.0
"""Seconds before a failed check is retried."""

Value = TypeVar("Value")


class ApprovalCommands:
    """Answers approvals, and continues or ends the turns that wait for them."""

    def __init__(self, store: Store, registry: Registry, turns: ModelTurns, recovery: TurnRecovery) -> None:
        self.logs = WaitingLogs(store, registry, turns)
        self._store = store
        self._registry = registry
        self._turns = turns
        self._recovery = recovery
        self._tasks: set[asyncio.Task[Any]] = set()

    async def answer(
        self, owner: str, turn_id: str, approval_id: str, answer: ApprovalAnswer
    ) -> ApprovalRecord:
        """Store the answer to an approval. After the last answer, continue the turn.

        The same answer may be repeated. Raises NotFound, StoreError, and Conflict (see `AnswerApproval`).
        """
        operation = AnswerApproval(
            turn_id=turn_id,
            owner=owner,
            approval_id=approval_id,
            approved=answer.approved,
            reason=answer.reason,
            now=now_microseconds(),
        )
        return await self._shielded(self._answer(operation))

    async def pending(self, turn_id: str) -> list[ApprovalRecord]:
        """Return the unanswered approvals of a waiting turn. Raises StoreError."""
        found = await self._store.read(ApprovalsOfTurn(turn_id=turn_id))
        return [approval for approval in found if approval.approved is None]

    async def end(self, turn_id: str) -> bool:
        """Cancel a turn if it waits. Return False if it does not. Raises StoreError."""
        executor = await self._shielded(self._continue(turn_id, cancel=True))
        if executor is None:
            return False
        await executor.ended.wait()
        return True

    async def end_all(self, chat_id: str) -> None:
        """Cancel the waiting turns of a chat. Raises StoreError."""
        for turn_id in await self._store.read(WaitingTurnsOf(chat_id=chat_id)):
            await self.end(turn_id)

    async def run(self) -> None:
        """Expire approvals, and continue turns whose approvals are all answered, until cancelled.

        One task does this for all turns of the process.
        """
        while True:
            self._registry.began_waiting.clear()
            try:
                pause = await self.check()
            except StoreError as error:
                logger.warning("approvals cannot be checked, next attempt in %g s: %s", RETRY_PAUSE, error)
                pause = RETRY_PAUSE
            except Exception:
                logger.exception("a check of the approvals failed, next attempt in %g s", RETRY_PAUSE)
                pause = RETRY_PAUSE
            try:
                async with asyncio.timeout(pause):
                    await self._registry.began_waiting.wait()
            except TimeoutError:
                pass

    async def check(self) -> float:
        """Do what is due now. Return the seconds until the next check. Raises StoreError."""
        while True:
            now = now_microseconds()
            due = await self._store.read(FindDueApprovals(now=now, most=BATCH_SIZE))
            done = [await self._expire(*expired) for expired in due.expired]
            done += [await self._continue_answered(turn_id) for turn_id in due.answered]
            if not all(done):
                return RETRY_PAUSE
            if not done:
                seconds = MAX_PAUSE if due.next_expiry is None else (due.next_expiry - now) / 1_000_000
                return min(max(seconds, 0.0), MAX_PAUSE)

    async def close(self) -> None:
        """Wait until the answers under way are stored. Waiting turns stay as they are."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _shielded(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Finish `work` even if its caller is cancelled: a stored answer must be shown."""
        task = asyncio.get_running_loop().create_task(work, name="turnstream approval")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _expire(self, turn_id: str, approval_id: str) -> bool:
        """Deny an approval whose time has passed. Return False if it must be tried again."""
        operation = ExpireApproval(turn_id=turn_id, approval_id=approval_id, now=now_microseconds())
        try:
            await self._shielded(self._answer(operation))
        except (NotFound, Conflict):
            pass  # answered or ended meanwhile
        except (StoreError, Unavailable) as error:
            logger.warning("turn %s: an approval cannot expire yet: %s", turn_id, error)
            return False
        return True

    async def _answer(self, operation: AnswerApproval) -> ApprovalRecord:
        turn_id = operation.turn_id
        async with self.logs.locked(turn_id):
            answered = await self._store.write(operation)
            if answered.event is not None:
                self.logs.show(turn_id, *answered.event)
        if not answered.unanswered:
            await self._continue_answered(turn_id)
        return answered.approval

    async def _continue_answered(self, turn_id: str) -> bool:
        """Continue a turn whose approvals are all answered. Return False if that must be tried again."""
        try:
            await self._shielded(self._continue(turn_id))
        except Fenced:
            return True  # another node has continued or ended it
        except (Unavailable, StoreError) as error:
            if isinstance(error, StoreError) and not error.retryable:
                await self._give_up(turn_id, error)
                return True
            logger.warning("turn %s cannot continue yet: %s", turn_id, error)
            return False
        except Exception as error:  # noqa: BLE001 - `_give_up` logs it, with its trace
            await self._give_up(turn_id, error)
        return True

    async def _give_up(self, turn_id: str, error: Exception) -> None:
        """End a turn that cannot be continued. Raises StoreError."""
        logger.error("turn %s cannot be continued, and ends: %r", turn_id, error, exc_info=error)
        await self._recovery.end(await self._store.read(GetTurn(owner=None, turn_id=turn_id)))

    async def _continue(self, turn_id: str, *, cancel: bool = False) -> Executor | None:
        """Give a waiting turn to a new executor. Return None if the turn does not wait, or lacks an answer.

        Raises NotFound, StoreError, and Unavailable if no more turns may run.

        Args:
            cancel: Cancel the turn, whether its approvals are answered or not.
        """
        async with self.logs.locked(turn_id):
            turn = await self._store.read(GetTurn(owner=None, turn_id=turn_id))
            if turn.status != "waiting":
                return None
            approvals = await self._store.read(ApprovalsOfTurn(turn_id=turn_id))
            if not cancel:
                if any(approval.approved is None for approval in approvals):
                    return None
                self._registry.admit()
            path = await read_history(self._store, turn_id)
            blocks = path[-1][1]
            step = max((approval.step for approval in approvals), default=0)
            answered = resumed_step(step, unanswered_calls(blocks), approvals)
            log = await self.logs.of(turn)
            continued = msgspec.structs.replace(turn, generation=turn.generation + 1, status="streaming")
            source = await self._source(continued, path, answered, cancel=cancel)
            account = await self._turns.account_of(turn)
            executor = self._turns.next_executor(
                continued,
                log,
                account,
                _position_of_results(step, blocks),
                kept=sum(not each.partial for each in blocks),
            )
            self._registry.reserve(executor, source, ends=cancel)
            if cancel:
                executor.stop("cancelled")
            operation = ContinueTurn(
                turn_id=turn_id, expected_generation=turn.generation, node=self._turns.node.id
            )
            writing = self._store.write(operation)
            starting = executor.continue_with(writing, lambda: self._registry.launch(executor, source))
            await asyncio.shield(starting)
            return executor

    async def _source(
        self, turn: TurnRecord, path: Path, answered: ResumedStep, *, cancel: bool
    ) -> TurnSource:
        calls = [call for call, _ in answered.calls or ()]
        if cancel:
            return _EndingSource(calls, TurnstreamError("the turn is cancelled"))
        try:
            return await self._turns.continued(turn, path, answered)
        except (RequestError, ProviderError) as error:  # the settings have changed
            return _EndingSource(calls, error)


def _position_of_results(step: int, blocks: Sequence[Block]) -> LoopPosition:
    """Return the position before the results of a step, after all blocks of the turn."""
    sequence = max((block.sequence + 1 for block in blocks), default=0)
    return LoopPosition(step, sequence, sequence, step_shown=True, answered=True)


class _EndingSource(TurnSource):
    """A source that ends a turn at the results of a step, with an error or because the turn is stopped."""

    def __init__(self, calls: Sequence[Block], error: TurnstreamError) -> None:
        self._calls = calls
        self._error = error

    def results(self, stop: MessageStop | None) -> Stream:
        del stop
        return self._fail()

    def unanswered(self) -> Sequence[Block]:
        return self._calls

    @asynccontextmanager
    async def _fail(self) -> AsyncGenerator[Batches, None]:
        raise self._error
        yield  # pragma: no cover - makes this function a generator
