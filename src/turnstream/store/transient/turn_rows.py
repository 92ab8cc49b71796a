"""The records of one transient turn, and the operations and queries that use them.

Operations and queries are those of stored turns, with the same results. All others know only stored turns: a
transient turn does not exist for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import merge
from typing import Any

import msgspec

from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.core.usage import CallAttempt
from turnstream.errors import Conflict, NotFound, StoreError, TooLarge
from turnstream.store.archive import ArchivedAfter, ArchivedBlock, CountBlocksUntil
from turnstream.store.base import Annotation, BlockRecord, Operation, Query, TurnRecord
from turnstream.store.columns import encode_json
from turnstream.store.ended_turns import HookDone
from turnstream.store.operations.approvals import StartWaiting
from turnstream.store.operations.content import SaveAnnotations, SaveBlock
from turnstream.store.operations.progress import FinishTurn, MarkStreaming, RetractBlocks, SaveStep
from turnstream.store.queries import AllBlocks, AttemptsOfTurn, CountBlocks, GetTurn, LastSeq

LARGEST_TURN = 32 * 1024 * 1024
"""Characters of the blocks and events of one transient turn. A larger turn ends with an error."""


class TransientRows(msgspec.Struct):
    """The records of one turn. `size`: characters of its blocks and events."""

    turn: TurnRecord
    blocks: list[BlockRecord] = []
    annotations: list[Annotation] = []
    attempts: tuple[CallAttempt, ...] = ()
    size: int = 0

    def between(self, seq: int, from_block: int) -> Iterator[tuple[int, BlockRecord | Annotation]]:
        """Yield the blocks from `from_block` on and the events, in order, that end after `seq`."""
        ended = ((row.last_seq, row) for row in self.blocks if row.block.sequence >= from_block)
        lasting = ((row.seq, row) for row in self.annotations)
        rows = merge(ended, lasting, key=lambda item: item[0])
        return ((last, row) for last, row in rows if last > seq)


def _add_block(rows: TransientRows, row: BlockRecord) -> None:
    if rows.blocks and rows.blocks[-1].block.sequence >= row.block.sequence:
        return  # stored before
    rows.size += len(row.block.text_content or "")
    if row.block.content is not None:
        try:
            rows.size += len(encode_json(row.block.content))
        except (TypeError, ValueError, RecursionError) as error:
            raise StoreError(f"a block has no JSON form: {error}", retryable=False) from error
    rows.blocks.append(row)


def _require_room(rows: TransientRows) -> None:
    if rows.size > LARGEST_TURN:
        raise TooLarge(
            f"a transient turn holds at most {LARGEST_TURN:,} characters", code="transient_turn_too_large"
        )


def _save_block(rows: TransientRows, operation: SaveBlock) -> None:
    _add_block(rows, operation.row)
    _require_room(rows)


def _save_annotations(rows: TransientRows, operation: SaveAnnotations) -> None:
    last = rows.annotations[-1].seq if rows.annotations else 0
    for row in operation.rows:
        if row.seq > last:
            rows.annotations.append(row)
            rows.size += len(row.event)
    _require_room(rows)


def _retract(rows: TransientRows, operation: RetractBlocks) -> None:
    reset = (operation.seq, operation.index)
    if reset in rows.turn.resets:
        return
    rows.blocks = [row for row in rows.blocks if row.block.sequence < operation.index]
    resets = (*rows.turn.resets, reset)
    rows.turn = msgspec.structs.replace(rows.turn, resets=resets, last_seq=operation.seq)


def _mark_streaming(rows: TransientRows, operation: MarkStreaming) -> None:
    rows.turn = operation.begun(rows.turn)


def _save_step(rows: TransientRows, operation: SaveStep) -> None:
    rows.attempts = operation.attempts


def _refuse_to_wait(_rows: TransientRows, _operation: StartWaiting) -> None:
    raise Conflict(
        "a transient turn cannot wait for an approval: set `store` to true, or leave out the tools that ask",
        code="approval_needs_rows",
    )


def _finish(rows: TransientRows, operation: FinishTurn) -> bool:
    if rows.turn.status in TERMINAL_STATUSES:
        return operation.ended(rows.turn) == rows.turn  # the write is repeated
    for row in operation.blocks:
        _add_block(rows, row)
    rows.attempts = operation.attempts
    rows.turn = operation.ended(rows.turn)
    return True


def _nothing(_rows: TransientRows, _operation: HookDone) -> None:
    pass


def _get_turn(rows: TransientRows, query: GetTurn) -> TurnRecord:
    if query.owner not in {None, rows.turn.owner}:
        raise NotFound("no such turn")
    return rows.turn


def _count_blocks(rows: TransientRows, _query: CountBlocks) -> tuple[int, int]:
    return len(rows.blocks), sum(not row.block.partial for row in rows.blocks)


def _last_seq(rows: TransientRows, _query: LastSeq) -> int:
    ends = (row.last_seq for row in rows.blocks)
    return max((rows.turn.last_seq, *ends, *(row.seq for row in rows.annotations)))


def _archived_after(rows: TransientRows, query: ArchivedAfter) -> Any:
    def items() -> Iterator[Any]:
        is_first = True
        for _, row in rows.between(query.seq, query.from_block):
            if is_first and isinstance(row, BlockRecord):
                is_first = False
                if (instead := query.known(row.id)) is not None:
                    yield instead
                    return
            yield row

    return query.use(items())


def _archived_block(rows: TransientRows, query: ArchivedBlock) -> Any:
    found = next((row for row in rows.blocks if row.block.sequence == query.sequence), None)
    return None if found is None else query.use(found)


def _count_until(rows: TransientRows, query: CountBlocksUntil) -> int:
    return sum(row.last_seq <= query.seq for row in rows.blocks)


WRITES: Mapping[type[Operation[Any]], Callable[[TransientRows, Any], Any]] = {
    SaveBlock: _save_block,
    SaveAnnotations: _save_annotations,
    RetractBlocks: _retract,
    MarkStreaming: _mark_streaming,
    SaveStep: _save_step,
    StartWaiting: _refuse_to_wait,
    FinishTurn: _finish,
    HookDone: _nothing,
}
"""Functions that apply an operation to the records of its turn."""
READS: Mapping[type[Query[Any]], Callable[[TransientRows, Any], Any]] = {
    GetTurn: _get_turn,
    AllBlocks: lambda rows, _: list(rows.blocks),
    AttemptsOfTurn: lambda rows, _: list(rows.attempts),
    CountBlocks: _count_blocks,
    LastSeq: _last_seq,
    ArchivedAfter: _archived_after,
    ArchivedBlock: _archived_block,
    CountBlocksUntil: _count_until,
}
"""Functions that answer a query from the records of its turn."""


class EndedRows(msgspec.Struct, frozen=True, gc=False):
    """The records of an ended turn as text, which the garbage collector does not traverse.

    `at`: time of the end on the monotonic clock.
    """

    turn: TurnRecord
    at: float
    text: str

    @property
    def size(self) -> int:
        """Estimated bytes in memory."""
        return _ENDED_COST + len(self.text)

    def rows(self) -> TransientRows:
        """Return the records."""
        blocks, annotations, attempts = _DECODER.decode(self.text)
        return TransientRows(self.turn, blocks, annotations, attempts, len(self.text))


_ENDED_COST = 1024
"""Estimated bytes of an ended turn without its text."""
_DECODER = msgspec.json.Decoder(
    tuple[list[BlockRecord], list[Annotation], tuple[CallAttempt, ...]],
)


def ended_rows(rows: TransientRows, at: float) -> EndedRows:
    """Return the records of an ended turn as text."""
    parts: Sequence[Any] = (rows.blocks, rows.annotations, rows.attempts)
    return EndedRows(rows.turn, at, encode_json(parts))
