"""Ending turns whose executor died, with what the journal kept (requirement D5)."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import groupby

from turnstream.core.blocks import Block, BlockType
from turnstream.core.cursor import next_generation_seq
from turnstream.core.history import PastTurn, build_history
from turnstream.core.identifiers import new_id
from turnstream.core.open_block import OpenBlock
from turnstream.core.usage import Usage
from turnstream.errors import InvalidRequest
from turnstream.llm.accounts import CalledModel, Summary, TurnAccount, estimated_input_tokens
from turnstream.providers.catalog import Catalog, parse_model
from turnstream.providers.pricing import Pricing
from turnstream.store.base import JournalSegment, Store, StoredBlock, Turn
from turnstream.store.operations import TakeOver
from turnstream.store.queries import AllBlocks, HistoryPath, Journal, Journals, LastSeq, UnfinishedTurns
from turnstream.turns.clock import now_microseconds
from turnstream.turns.ending import LOST_EXECUTOR, cancelled_results
from turnstream.wires.base import ModelRequest

logger = logging.getLogger(__name__)

_AT_ONCE = 64
_HISTORIES_AT_ONCE = 2
"""They may be long."""


class Recovery:
    """Takes over turns of one store. `catalog`, `pricing`: who was called, and what that costs, as far as it is known."""

    def __init__(self, store: Store, catalog: Catalog, pricing: Pricing | None = None) -> None:
        self._store = store
        self._catalog = catalog
        self._pricing = pricing
        self._histories = asyncio.Semaphore(_HISTORIES_AT_ONCE)

    async def end_all(self) -> int:
        """End every turn that a dead process left unfinished; how many there were. Raises StoreError.

        Several at a time: their transactions are committed in groups, and the server serves no one before the last.
        """
        turns = await self._store.read(UnfinishedTurns())
        journals = await self._store.read(Journals()) if turns else {}
        remaining = iter(turns)

        async def end_some() -> None:
            for turn in remaining:
                await self._end(turn, journals.get(turn.id, ()))

        await asyncio.gather(*(end_some() for _ in range(min(len(turns), _AT_ONCE))))
        if turns:
            logger.warning("ended %d turns that a stopped server had left unfinished", len(turns))
        return len(turns)

    async def end(self, turn: Turn) -> bool:
        """Take over and end one turn, as `end_all` does. Raises StoreError."""
        return await self._end(turn, await self._store.read(Journal(turn_id=turn.id)))

    async def _end(self, turn: Turn, segments: Sequence[JournalSegment]) -> bool:
        """Take a turn over and end it, its open block kept as far as it was journalled; False if it had ended.

        The new generation's numbers begin above all that the lost executor can have given; what survived of the old one
        is its fence: a watcher whose cursor is above it will be told that text is gone. Calls of tools that have no
        result get one (G5), and what the turn has used is estimated (I3).
        """
        survived = await self._store.read(LastSeq(turn_id=turn.id))
        survived = max([survived, *(segment.seq for segment in segments)])
        stored = await self._store.read(AllBlocks(turn_id=turn.id))
        seq = next_generation_seq(survived)
        kept = unbroken(segments)
        if len(kept) < len(segments):
            survived = kept[-1].seq if kept else segments[0].first_seq - 1
        now = now_microseconds()
        rows: list[StoredBlock] = []
        for block, first_seq in partial_blocks(kept):
            rows.append(StoredBlock(new_id(), turn.id, block, first_seq, seq, now))
            seq += 1
        blocks = [row.block for row in (*stored, *rows)]
        for block in cancelled_results(unanswered_calls(blocks), _after(blocks), LOST_EXECUTOR):
            rows.append(StoredBlock(new_id(), turn.id, block, seq, seq, now))
            seq += 1
        summary = await self._summary(turn, blocks)
        return await self._store.write(
            TakeOver(
                turn_id=turn.id,
                expected_generation=turn.generation,
                generation=turn.generation + 1,
                fence_seq=survived,
                blocks=tuple(rows),
                status=LOST_EXECUTOR.status,
                error_code=LOST_EXECUTOR.code,
                error_message=LOST_EXECUTOR.message,
                last_seq=seq,
                completed_at=now,
                usage=summary.usage,
                cost=summary.cost,
                cost_estimated=summary.estimated,
                steps=summary.steps,
            )
        )

    async def _summary(self, turn: Turn, blocks: Sequence[Block]) -> Summary:
        """What the turn has used, by an estimate: what the provider said of it is lost with the process."""
        called = self._called(turn)
        if called is None or (turn.status == "pending" and not blocks):
            return Summary()
        if self._pricing is not None:
            self._pricing.prepare(called.provider, called.model)
            await self._pricing.ready()
        async with self._histories:
            path = await self._store.read(HistoryPath(turn_id=turn.prev_turn_id or ""))
            past = [PastTurn(before.role, before.status, said) for before, said in path]
            return self._estimate(turn, called, past, blocks)

    def _estimate(
        self, turn: Turn, called: CalledModel, past: Sequence[PastTurn], blocks: Sequence[Block]
    ) -> Summary:
        account = TurnAccount(self._pricing)
        for number, (before, said) in enumerate(model_calls(blocks)):
            turns = [*past, PastTurn(turn.role, turn.status, before)] if before else past
            request = ModelRequest(called.model, build_history(turns), turn.system)
            account.begin(number, called, partial(estimated_input_tokens, request))
            for block in said:
                account.said(block)
            account.lose()
        return account.end(Usage(), complete=False)

    def _called(self, turn: Turn) -> CalledModel | None:
        """Whom the turn called; None where that is no model of ours, or not configured any more."""
        try:
            provider, model = parse_model(turn.model or "", self._catalog.names)
        except InvalidRequest:
            return None
        return CalledModel(provider, model, self._catalog.wire_of(provider))


def model_calls(blocks: Sequence[Block]) -> list[tuple[Sequence[Block], Sequence[Block]]]:
    """The model calls of a turn, by its blocks: what had been said in it before each, and what the model then said. The
    first one may have said nothing; of a later one that did not nobody knows whether it was made."""
    starts = [0]
    for place, block in enumerate(blocks):
        if place and _is_result(blocks[place - 1]) and not _is_result(block):
            starts.append(place)
    ends = [*starts[1:], len(blocks)]
    return [(blocks[:start], blocks[start:end]) for start, end in zip(starts, ends, strict=True)]


def unanswered_calls(blocks: Sequence[Block]) -> list[Block]:
    """The whole calls of tools that have no whole result."""
    answered = Counter(_call_id(block) for block in blocks if _is_result(block) and not block.partial)
    unanswered: list[Block] = []
    for block in blocks:
        if block.block_type != "tool_use" or block.partial or (block.content or {}).get("provider_executed"):
            continue
        if answered[_call_id(block)]:
            answered[_call_id(block)] -= 1
        else:
            unanswered.append(block)
    return unanswered


def _is_result(block: Block) -> bool:
    return block.block_type == "tool_result" and not (block.content or {}).get("provider_executed")


def _call_id(block: Block) -> str:
    return str((block.content or {}).get("tool_use_id", ""))


def _after(blocks: Sequence[Block]) -> int:
    return max((block.sequence + 1 for block in blocks), default=0)


def unbroken(segments: Sequence[JournalSegment]) -> Sequence[JournalSegment]:
    """Those before the first that is missing: the journal gives up text when storage fails for too long, and what came
    after is of no use without it."""
    for place, segment in enumerate(segments):
        before = segments[place - 1] if place else None
        expected = before.number + 1 if before is not None and before.sequence == segment.sequence else 0
        if segment.number != expected:
            return segments[:place]
    return segments


def partial_blocks(segments: Iterable[JournalSegment]) -> list[tuple[Block, int]]:
    """The blocks that journal segments hold, cut off where the journal ends, each with its first seq."""
    blocks: list[tuple[Block, int]] = []
    for sequence, group in groupby(segments, key=lambda segment: segment.sequence):
        pieces = list(group)
        block_type: BlockType = pieces[0].block_type  # type: ignore[assignment]
        block = OpenBlock(sequence, 0, block_type, None, implicit=False)
        for piece in pieces:
            block.append(piece.text)
            if piece.content is not None:
                block.content = piece.content
        blocks.append((block.finish(partial=True), pieces[0].first_seq))
    return blocks
