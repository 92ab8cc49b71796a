"""Recovery: ends turns whose executor died, with the text that the journal kept.

On a shared database, this node may restart a turn that it has claimed instead of ending it (`restarting`).

Recovery is per turn. A turn whose rows cannot be decoded ends as an error, is logged, and delays no other
turn. The engine starts before all turns are recovered. A command or a watcher that needs a turn recovers that
turn first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from turnstream.core.blocks import Block
from turnstream.core.cursor import next_generation_seq
from turnstream.core.identifiers import new_id
from turnstream.errors import Fenced, NotFound, StoreError, Unreadable
from turnstream.nodes.node import OwnNode
from turnstream.providers.catalog import Catalog
from turnstream.providers.pricing import Pricing
from turnstream.store.base import BlockRecord, OutcomeRecord, Store, TurnRecord
from turnstream.store.journal.pages import LOCAL_NODE, JournalSegment, OpenedBlock, open_blocks, unbroken
from turnstream.store.journal.queries import Journal, Journals
from turnstream.store.ledger.queries import ToolRunsOfTurn
from turnstream.store.operations.nodes import ClaimedTurn, ClaimTurn
from turnstream.store.operations.progress import AbandonTurn, TakeOver
from turnstream.store.operations.signals import MustStop
from turnstream.store.queries import (
    AllBlocks,
    GetTurn,
    LastSeq,
    UnfinishedTurns,
)
from turnstream.turns.clock import now_microseconds
from turnstream.turns.ending import (
    LOST_EXECUTOR,
    STOPPED,
    UNRECOVERABLE,
    cancelled_results,
    final_outcome,
)
from turnstream.turns.takeover.lost_answers import LostAnswers
from turnstream.turns.takeover.lost_usage import READ_SECONDS, LostUsage
from turnstream.turns.takeover.positions import LostTurn, noted_results, unanswered_calls

logger = logging.getLogger(__name__)

_AT_ONCE = 64
_RETRY_SECONDS = 2.0
_LONGEST_RETRY_SECONDS = 60.0
_ABANDON_SECONDS = 120.0
"""Seconds that storage may refuse the end of a turn. Then the turn ends with its stored blocks."""


class TurnRecovery:
    """Recovers the unfinished turns of one store. They end, or `restart` continues them.

    Args:
        catalog: Providers and their models.
        pricing: Prices for the estimate of a turn's cost. None: no cost is estimated.
        end_here: Ends a turn whose task died in this process. Returns False if there is none.
        node: This process. Turns of other nodes must have been claimed.
    """

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        pricing: Pricing | None = None,
        *,
        end_here: Callable[[str], Awaitable[bool]] | None = None,
        node: OwnNode | None = None,
    ) -> None:
        self._store = store
        self.usage = LostUsage(store, catalog, pricing)
        self.answers = LostAnswers(store, catalog)
        self._end_here = end_here
        self._node = node or OwnNode()
        self._ending: dict[str, asyncio.Task[bool]] = {}
        """Tasks that end turns now, by turn id. All callers that need a turn wait for its task."""
        self.restart: Callable[[LostTurn], Awaitable[OutcomeRecord | None]] | None = None
        """Continues a claimed turn and returns None, or returns the turn's outcome if it must end."""
        self._refused_since: dict[str, float] = {}
        self._cancelled: set[str] = set()
        """Ids of turns that end as cancelled."""

    async def run(self, *, tried: asyncio.Event) -> None:
        """End every turn that a dead process left unfinished. Retry while storage fails.

        Does nothing on a shared database, where other processes may write these turns: see `recover`.

        Args:
            tried: Set after every turn has been tried once.
        """
        if self._node.is_shared:
            tried.set()
            return
        pause = _RETRY_SECONDS
        while True:
            try:
                await self.end_all()
            except Exception as error:
                if not isinstance(error, StoreError):
                    logger.exception("recovery failed unexpectedly")
                logger.warning("some turns are still unfinished, next attempt in %g s: %s", pause, error)
            else:
                return
            finally:
                tried.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_RETRY_SECONDS)

    async def end_all(self) -> int:
        """End every turn that a dead process left unfinished, and return their number.

        Several turns are ended at a time, so that their transactions are committed in groups. Raises
        StoreError if storage failed for some turns. All other turns have ended then.
        """
        turn_ids = await self._store.read(UnfinishedTurns(), seconds=READ_SECONDS)
        return await self._end_turns(turn_ids, await self._journals(LOCAL_NODE) if turn_ids else {})

    async def recover(self, claimed: Sequence[ClaimedTurn]) -> int:
        """Restart or end turns that this node has claimed. Return their number. Raises StoreError."""
        journals: dict[str, list[JournalSegment]] = {}
        for node_id in {turn.taken_from for turn in claimed}:
            journals.update(await self._journals(node_id))
        return await self._end_turns([turn.id for turn in claimed], journals)

    async def cancel(self, claimed: ClaimedTurn) -> None:
        """End a turn that this node has claimed as cancelled. Raises StoreError."""
        self._cancelled.add(claimed.id)
        try:
            await self.recover([claimed])
        finally:
            self._cancelled.discard(claimed.id)

    async def _end_turns(self, turn_ids: Sequence[str], journals: dict[str, list[JournalSegment]]) -> int:
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
            logger.warning("recovered %d turns that a stopped or lost server had left unfinished", ended)
            self._node.measures.recovered += ended
        if failures:
            raise failures[0]
        return ended

    async def end(self, turn: TurnRecord) -> bool:
        """Take over and end one turn, as `end_all` does. Raises StoreError.

        Return False if it had ended, or if it belongs to another node.
        """
        if self._end_here is not None and await self._end_here(turn.id):
            return True
        if self._node.is_shared:
            if turn.node != self._node.id:
                return False
            if turn.taken_from is None:  # this node has no task of the turn
                try:
                    claim = ClaimTurn(turn_id=turn.id, node=self._node.id, generation=turn.generation)
                    await self._store.write(claim)
                except Fenced:
                    return False
        return await self._once(turn.id, None)

    async def close(self) -> None:
        """Stop the recovery of turns. The remaining turns are recovered at the next start."""
        tasks = list(self._ending.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _journals(self, owner: str) -> dict[str, list[JournalSegment]]:
        try:
            return await self._store.read(Journals(owner=owner), seconds=READ_SECONDS)
        except Unreadable as error:
            logger.error("the journal cannot be read, and the text in it is lost: %s", error)
            return {}

    async def _journal(self, turn_id: str, owner: str) -> list[JournalSegment]:
        try:
            return await self._store.read(Journal(turn_id=turn_id, owner=owner), seconds=READ_SECONDS)
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
            turn = await self._store.read(GetTurn(owner=None, turn_id=turn_id), seconds=READ_SECONDS)
            if self._node.is_shared and (turn.node != self._node.id or turn.taken_from is None):
                return False  # another node has claimed it meanwhile
            if segments is None:
                segments = await self._journal(turn_id, turn.taken_from or LOCAL_NODE)
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
            last_seq = await self._store.read(LastSeq(turn_id=turn_id), seconds=READ_SECONDS)
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
                node=self._node.id if self._node.is_shared else None,
            )
        )

    async def _must_stop(self, turn: TurnRecord) -> bool:
        """Return True if a user stopped the turn, and its node was lost before that. Raises StoreError."""
        return turn.taken_from is not None and await self._store.read(MustStop(turn_id=turn.id))

    async def _take_over(self, turn: TurnRecord, segments: Sequence[JournalSegment]) -> bool:
        """Take over a turn, and restart or end it. Keep its open block up to the last journalled text.

        Return False if the turn had ended. If the turn ends, tool calls without a result get one. It says if
        the call may have run. The usage is estimated then.
        """
        # The new generation's numbers begin above all that the lost executor can have used. The last number
        # that survived is the old generation's fence: a watcher with a higher cursor has seen lost text.
        survived = await self._store.read(LastSeq(turn_id=turn.id), seconds=READ_SECONDS)
        survived = max([survived, *(segment.seq for segment in segments)])
        stored = await self._store.read(AllBlocks(turn_id=turn.id), seconds=READ_SECONDS)
        seq = next_generation_seq(survived)
        kept = unbroken(segments)
        if len(kept) < len(segments):
            survived = kept[-1].seq if kept else segments[0].first_seq - 1
        now = now_microseconds()
        rows: list[BlockRecord] = []
        opened: OpenedBlock | None = None
        for opened in open_blocks(kept):
            block = opened.block.finish(partial=True)
            rows.append(BlockRecord(new_id(), turn.id, block, opened.first_seq, seq, now))
            seq += 1
        blocks = [row.block for row in (*stored, *rows)]
        outcome = LOST_EXECUTOR
        if turn.id in self._cancelled or await self._must_stop(turn):
            outcome = STOPPED["cancelled"]
        elif turn.taken_from is not None and self.restart is not None:
            lost = LostTurn(turn, stored, tuple(rows), survived, opened)
            if (failed := await self.restart(lost)) is None:
                return True
            outcome = failed
        calls = unanswered_calls(blocks)
        runs = await self._store.read(ToolRunsOfTurn(turn_id=turn.id), seconds=READ_SECONDS) if calls else ()
        for block in cancelled_results(calls, _after(blocks), outcome, noted_results(stored, runs)):
            rows.append(BlockRecord(new_id(), turn.id, block, seq, seq, now))
            seq += 1
        summary = await self.usage.summary(turn, blocks)
        answer = None if turn.taken_from is None else await self.answers.of(turn)
        has_ended = await self._store.write(
            TakeOver(
                turn_id=turn.id,
                expected_generation=turn.generation,
                generation=turn.generation + (turn.taken_from is None),
                fence_seq=survived,
                blocks=tuple(rows),
                outcome=final_outcome(outcome, summary, last_seq=seq, now=now),
            )
        )
        if has_ended:
            self.answers.cancel(answer)
        return has_ended


def _after(blocks: Sequence[Block]) -> int:
    return max((block.sequence + 1 for block in blocks), default=0)
