"""The turns before a turn: the history of a model call, and the chain that a client shows as one message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from turnstream.core.blocks import Block
from turnstream.store.base import Store, TurnRecord
from turnstream.store.portions import Bounds, HistoryBeginning, Portion, ReadPortion, unchanged
from turnstream.store.queries import AllBlocks, GetTurn

Path: TypeAlias = list[tuple[TurnRecord, tuple[Block, ...]]]
"""Turns with their blocks, oldest first."""

PORTION = Bounds(turns=64, size=512 * 1024, repeats_settings=False)
DEPTH = 2000
"""Turns of a history, at most. Only the last turns of a longer history are read."""
LONGEST_CHAIN = 1000
"""Turns of a chain. The message of a longer chain begins within it."""


async def read_history(
    store: Store, turn_id: str, *, owner: str | None = None, seconds: float | None = None
) -> Path:
    """Return the turns from the chat's first turn to `turn_id`, with their blocks.

    The path of an unknown turn is empty. Raises StoreError, and NotFound if the chat is deleted during
    the read.

    Args:
        owner: Raise NotFound unless this owner has the turn. None: any owner.
        seconds: Deadline of each portion. None: see `Store.read`.
    """
    beginning = HistoryBeginning(turn_id=turn_id, bounds=PORTION, depth=DEPTH, owner=owner)
    turn_ids, portion = await store.read(beginning, seconds=seconds)
    path: Path = []
    _add(path, portion)
    position = portion.next
    while position is not None:
        query = ReadPortion(turn_ids=turn_ids, bounds=PORTION, start=position, use=unchanged)
        portion, position = await store.read(query, seconds=seconds)
        _add(path, portion)
    return path


def _add(path: Path, portion: Portion) -> None:
    for piece in portion.pieces:
        blocks = tuple(row.block for row in piece.blocks)
        if piece.turn is None:
            turn, before = path[-1]
            path[-1] = (turn, before + blocks)
        else:
            path.append((piece.turn, blocks))


async def chain_of(store: Store, turn: TurnRecord, asked: Sequence[Block] = ()) -> tuple[str, ...]:
    """Return the ids of the chain of turns that ends with the assistant's turn `turn`, oldest first.

    A client shows a chain as one message: turns that ended with calls for the client, turns that hold nothing
    but the client's results, and the turn that continues with them.

    Raises StoreError, and NotFound if the chat was deleted.

    Args:
        asked: Blocks of the user's turn that `turn` answers, if they are known. They save reads.
    """
    if asked and not _are_results(asked):
        return (turn.id,)
    chain = [turn.id]
    while len(chain) < LONGEST_CHAIN and turn.prev_turn_id is not None:
        before = await store.read(GetTurn(owner=turn.owner, turn_id=turn.prev_turn_id))
        if before.role != "user" or before.prev_turn_id is None:
            break
        rows = await store.read(AllBlocks(turn_id=before.id))
        if not _are_results([row.block for row in rows]):
            break
        turn = await store.read(GetTurn(owner=turn.owner, turn_id=before.prev_turn_id))
        chain += [before.id, turn.id]
    chain.reverse()
    return tuple(chain)


def _are_results(blocks: Sequence[Block]) -> bool:
    """Return True if a user's turn holds nothing but results of tools."""
    return bool(blocks) and all(block.block_type == "tool_result" for block in blocks)
