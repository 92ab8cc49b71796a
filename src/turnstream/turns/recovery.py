"""Recovery: ends turns whose executor died, with the text that the journal kept.

Recovery is per turn. A turn whose rows cannot be decoded ends as an error, is logged, and delays no other
turn. The engine starts before all turns are recovered. A command or a watcher that needs a turn recovers that
turn first.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from functools import partial

import msgspec

from turnstream.core.blocks import Block, call_id, is_client_call, is_client_result
from turnstream.core.cursor import next_generation_seq
from turnstream.core.history import PastTurn, build_history
from turnstream.core.identifiers import new_id
from turnstream.core.usage import StepUsage, Usage
from turnstream.errors import Fenced, InvalidRequest, NotFound, StoreError, Unreadable
from turnstream.model_loop.accounts import CalledModel, Summary, TurnAccount
from turnstream.model_loop.estimates import estimated_input_tokens, output_bytes_of, tokens_of
from turnstream.providers.catalog import Catalog, parse_model
from turnstream.providers.pricing import Pricing
from turnstream.store.base import BlockRecord, Store, TurnRecord
from turnstream.store.journal.pages import LOCAL_NODE, JournalSegment, partial_blocks, unbroken
from turnstream.store.journal.queries import Journal, Journals
from turnstream.store.operations.progress import AbandonTurn, TakeOver
from turnstream.store.queries import (
    AllBlocks,
    GetTurn,
    LastSeq,
    UnfinishedTurns,
)
from turnstream.turns.clock import now_microseconds
from turnstream.turns.ending import LOST_EXECUTOR, UNRECOVERABLE, cancelled_results, final_outcome
from turnstream.turns.histories import read_history
from turnstream.wires.base import ModelRequest

logger = logging.getLogger(__name__)

_AT_ONCE = 64
_HISTORIES_AT_ONCE = 2
"""Histories read at a time. Few, because they may be long."""
_READ_SECONDS = 120.0
"""Seconds that one read may take. It is more than for requests: no turn is lost because of a long history."""
_RETRY_SECONDS = 2.0
_LONGEST_RETRY_SECONDS = 60.0
_ABANDON_SECONDS = 120.0
"""Seconds that storage may refuse the end of a turn. Then the turn ends with its stored blocks."""


class TurnRecovery:
    """Ends the unfinished turns of one store.

    Args:
        catalog: Providers and their models.
        pricing: Prices for the estimate of a turn's cost. None: no cost is estimated.
        end_here: Ends a turn whose task died in this process. Returns False if there is none.
        owner: Owner of the journal pages to read.
    """

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        pricing: Pricing | None = None,
        *,
        end_here: Callable[[str], Awaitable[bool]] | None = None,
        owner: str = LOCAL_NODE,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._pricing = pricing
        self._end_here = end_here
        self._owner = owner
        self._histories = asyncio.Semaphore(_HISTORIES_AT_ONCE)
        self._ending: dict[str, asyncio.Task[bool]] = {}
        """Tasks that end turns now, by turn id. All callers that need a turn wait for its task."""
        self._refused_since: dict[str, float] = {}

    async def run(self, *, tried: asyncio.Event) -> None:
        """End every turn that a dead process left unfinished. Retry while storage fails.

        Args:
            tried: Set after every turn has been tried once.
        """
        pause = _RETRY_SECONDS
        while True:
            try:
                await self.end_all()
            except Exception as error:
                if not isinstance(error, StoreError):
                    logger.exception("recovery failed unexpectedly")
                logger.warning("unfinished turns are still there, next try in %g s: %s", pause, error)
            else:
                return
            finally:
                tried.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_RETRY_SECONDS)

    async def end_all(self) -> int:
        """End every turn that a dead process left unfinished, and return their number.

        Several turns are ended at a time, so that their transactions are committed in groups. Raises
        StoreError if storage failed for some turns. The others have ended then.
        """
        turn_ids = await self._store.read(UnfinishedTurns(), seconds=_READ_SECONDS)
        journals = await self._journals() if turn_ids else {}
        remaining = iter(turn_ids)
        failures: list[StoreError] = []

        async def end_some() -> None:
            for turn_id in remaining:
                try:
                    await self._once(turn_id, journals.pop(turn_id, ()))
                except StoreError as error:
                    logger.warning("turn %s cannot be recovered yet: %s", turn_id, error)
                    failures.append(error)

        await asyncio.gather(*(end_some() for _ in range(min(len(turn_ids), _AT_ONCE))))
        if ended := len(turn_ids) - len(failures):
            logger.warning("ended %d turns that a stopped server had left unfinished", ended)
        if failures:
            raise failures[0]
        return ended

    async def end(self, turn: TurnRecord) -> bool:
        """Take over and end one turn, as `end_all` does. Return False if it had ended. Raises StoreError."""
        if self._end_here is not None and await self._end_here(turn.id):
            return True
        return await self._once(turn.id, None)

    async def close(self) -> None:
        """Stop the recovery of turns. The remaining turns are recovered at the next start."""
        tasks = list(self._ending.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _journals(self) -> dict[str, list[JournalSegment]]:
        try:
            return await self._store.read(Journals(owner=self._owner), seconds=_READ_SECONDS)
        except Unreadable as error:
            logger.error("the journal cannot be read, and the text in it is lost: %s", error)
            return {}

    async def _journal(self, turn_id: str) -> list[JournalSegment]:
        try:
            return await self._store.read(Journal(turn_id=turn_id, owner=self._owner), seconds=_READ_SECONDS)
        except Unreadable as error:
            logger.error(
                "turn %s: its journal cannot be read, and the text in it is lost: %s", turn_id, error
            )
            return []

    async def _once(self, turn_id: str, segments: Sequence[JournalSegment] | None) -> bool:
        """End a turn in a task that all callers share.

        `segments` is its journal, or None if it is not read yet.
        """
        task = self._ending.get(turn_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._end(turn_id, segments), name=f"end {turn_id}")
            self._ending[turn_id] = task
            task.add_done_callback(partial(self._forget, turn_id))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if task.cancelled() and caller is not None and not caller.cancelling():
                raise StoreError(
                    "the server is being stopped: the turn is recovered at its next start"
                ) from None
            raise

    def _forget(self, turn_id: str, task: asyncio.Task[bool]) -> None:
        del self._ending[turn_id]
        if not task.cancelled() and task.exception() is None:
            self._refused_since.pop(turn_id, None)

    async def _end(self, turn_id: str, segments: Sequence[JournalSegment] | None) -> bool:
        """Take over a turn and end it. Raises StoreError if storage failed and a retry may succeed."""
        try:
            turn = await self._store.read(GetTurn(owner=None, turn_id=turn_id), seconds=_READ_SECONDS)
            if segments is None:
                segments = await self._journal(turn_id)
            return await self._take_over(turn, segments)
        except (Fenced, NotFound):
            return False  # deleted, or ended elsewhere
        except StoreError as error:
            now = asyncio.get_running_loop().time()
            if error.retryable and now - self._refused_since.setdefault(turn_id, now) < _ABANDON_SECONDS:
                raise
            return await self._abandon(turn_id, error)
        except Exception as error:  # noqa: BLE001 - `_abandon` logs it, with its trace
            return await self._abandon(turn_id, error)

    async def _abandon(self, turn_id: str, error: Exception) -> bool:
        """End a turn that cannot be read completely. Its stored blocks stay. Raises StoreError."""
        logger.error("turn %s cannot be recovered, and ends as an error: %r", turn_id, error, exc_info=error)
        try:
            last_seq = await self._store.read(LastSeq(turn_id=turn_id), seconds=_READ_SECONDS)
            last_seq = next_generation_seq(last_seq)
        except (Unreadable, TypeError):
            last_seq = next_generation_seq(0)
        return await self._store.write(
            AbandonTurn(
                turn_id=turn_id,
                last_seq=last_seq,
                error_code=UNRECOVERABLE.error_code,
                error_message=UNRECOVERABLE.error_message,
                completed_at=now_microseconds(),
            )
        )

    async def _take_over(self, turn: TurnRecord, segments: Sequence[JournalSegment]) -> bool:
        """Take over a turn and end it. Keep its open block up to the last journalled text.

        Return False if the turn had ended. Tool calls without a result get one. The usage is estimated.
        """
        # The new generation's numbers begin above all that the lost executor can have used. The last number
        # that survived is the old generation's fence: a watcher with a higher cursor has seen lost text.
        survived = await self._store.read(LastSeq(turn_id=turn.id), seconds=_READ_SECONDS)
        survived = max([survived, *(segment.seq for segment in segments)])
        stored = await self._store.read(AllBlocks(turn_id=turn.id), seconds=_READ_SECONDS)
        seq = next_generation_seq(survived)
        kept = unbroken(segments)
        if len(kept) < len(segments):
            survived = kept[-1].seq if kept else segments[0].first_seq - 1
        now = now_microseconds()
        rows: list[BlockRecord] = []
        for block, first_seq in partial_blocks(kept):
            rows.append(BlockRecord(new_id(), turn.id, block, first_seq, seq, now))
            seq += 1
        blocks = [row.block for row in (*stored, *rows)]
        for block in cancelled_results(unanswered_calls(blocks), _after(blocks), LOST_EXECUTOR):
            rows.append(BlockRecord(new_id(), turn.id, block, seq, seq, now))
            seq += 1
        summary = await self._summary(turn, blocks)
        return await self._store.write(
            TakeOver(
                turn_id=turn.id,
                expected_generation=turn.generation,
                generation=turn.generation + 1,
                fence_seq=survived,
                blocks=tuple(rows),
                outcome=final_outcome(LOST_EXECUTOR, summary, last_seq=seq, now=now),
            )
        )

    async def _summary(self, turn: TurnRecord, blocks: Sequence[Block]) -> Summary:
        """Return an estimate of the turn's usage. The provider's own figures were lost with the process.

        Without a readable history there is no estimate. The turn keeps its text in any case.
        """
        called = self._called(turn.model)
        if called is None or (turn.status == "pending" and not blocks):
            return _joined(await self._booked(turn, blocks), Summary())
        try:
            if self._pricing is not None:
                self._pricing.prepare(called.provider, called.model)
                await self._pricing.ready()
            async with self._histories:
                path = await read_history(self._store, turn.prev_turn_id or "", seconds=_READ_SECONDS)
                past = [PastTurn(before.role, before.status, count_block) for before, count_block in path]
                return await asyncio.to_thread(self._estimate, turn, called, past, blocks)
        except Exception:
            logger.exception("turn %s: its usage cannot be estimated", turn.id)
            return _joined(turn.steps, Summary())

    def _estimate(
        self, turn: TurnRecord, called: CalledModel, past: Sequence[PastTurn], blocks: Sequence[Block]
    ) -> Summary:
        account = TurnAccount(self._pricing)
        known = {step.step for step in turn.steps}
        for number, (before, count_block) in enumerate(model_calls(blocks)):
            if number in known:
                continue
            turns = [*past, PastTurn(turn.role, turn.status, before)] if before else past
            request = ModelRequest(called.model, build_history(turns), turn.system)
            account.begin(number, called, partial(estimated_input_tokens, request))
            for block in count_block:
                account.count_block(block)
            account.lose()
        return _joined(turn.steps, account.end(Usage(), complete=False))

    async def _booked(self, turn: TurnRecord, blocks: Sequence[Block]) -> Sequence[StepUsage]:
        """Return the calls that the turn's source has booked. The output of a call that ran is estimated."""
        size = sum(output_bytes_of(block) for block in blocks if block.partial)
        steps: list[StepUsage] = []
        for step in turn.steps:
            if step.estimated and step.usage.output_tokens is None:
                usage, size = msgspec.structs.replace(step.usage, output_tokens=tokens_of(size)), 0
                cost = await self._cost(step.model, usage)
                steps.append(msgspec.structs.replace(step, usage=usage, cost=cost))
            else:
                steps.append(step)
        return steps

    async def _cost(self, name: str | None, usage: Usage) -> str | None:
        called, pricing = self._called(name), self._pricing
        if called is None or pricing is None:
            return None
        pricing.prepare(called.provider, called.model)
        await pricing.ready()
        cost = pricing.cost(called.provider, called.model, called.wire, usage)
        return None if cost is None else cost.text

    def _called(self, name: str | None) -> CalledModel | None:
        """Return the model of a name, or None if it is not in the catalog."""
        try:
            provider, model = parse_model(name or "", self._catalog.names)
        except InvalidRequest:
            return None
        return CalledModel(provider, model, self._catalog.wire_of(provider))


def _joined(known: Sequence[StepUsage], lost: Summary) -> Summary:
    """Return one account for the steps that the lost process stored and for those that are estimated."""
    if not known:
        return lost
    usage, steps = lost.usage, (*known, *lost.steps)
    for step in known:
        usage = usage.plus(step.usage)
    costs = [Decimal(step.cost) for step in steps if step.cost is not None]
    is_known = all(step.cost is not None or step.usage == Usage() for step in steps)
    return Summary(
        usage=usage,
        cost=f"{sum(costs):.6f}" if costs and is_known else None,
        cost_estimated=any(step.estimated for step in steps),
        steps=steps,
    )


def model_calls(blocks: Sequence[Block]) -> list[tuple[Sequence[Block], Sequence[Block]]]:
    """Return a turn's model calls, as its blocks show them.

    Each call is a pair: the turn's blocks before the call, and the call's blocks with the results of its
    tools. The first call may have no blocks. A later call without blocks is not listed: it may not have been
    made.
    """
    starts = [0]
    for place, block in enumerate(blocks):
        if place and is_client_result(blocks[place - 1]) and not is_client_result(block):
            starts.append(place)
    ends = [*starts[1:], len(blocks)]
    return [(blocks[:start], blocks[start:end]) for start, end in zip(starts, ends, strict=True)]


def unanswered_calls(blocks: Sequence[Block]) -> list[Block]:
    """Return the complete tool calls that have no complete result."""
    answered = Counter(call_id(block) for block in blocks if is_client_result(block) and not block.partial)
    unanswered: list[Block] = []
    for block in blocks:
        if block.partial or not is_client_call(block):
            continue
        if answered[call_id(block)]:
            answered[call_id(block)] -= 1
        else:
            unanswered.append(block)
    return unanswered


def _after(blocks: Sequence[Block]) -> int:
    return max((block.sequence + 1 for block in blocks), default=0)
