"""Chats of many turns, inserted into a store by one write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from turnstream.core.blocks import Block
from turnstream.core.identifiers import new_id
from turnstream.store.base import BlockRecord, Operation, TurnRecord
from turnstream.store.database import driver_of
from turnstream.store.rows import block_row
from turnstream.store.schema import blocks, turns
from turnstream.store.settings import store_settings

GENERATION = 7


class InsertTurns(Operation[None], frozen=True, kw_only=True):
    """Insert turns and blocks unchanged, with any status."""

    turns: Sequence[TurnRecord]
    blocks: Sequence[BlockRecord]

    def apply(self, connection: Connection) -> None:
        driver_of(connection).insert(
            connection, turns, [store_settings(connection, turn) for turn in self.turns]
        )
        driver_of(connection).insert(connection, blocks, [block_row(block) for block in self.blocks])


def long_chat(
    chat_id: str, sizes: Sequence[Sequence[int]], ids: Sequence[str] = (), **fields: Any
) -> InsertTurns:
    """Return turns in a row, a user's first. Each has blocks of `size` characters, of two bytes each."""
    turns: list[TurnRecord] = []
    blocks: list[BlockRecord] = []
    for number, lengths in enumerate(sizes):
        turn = TurnRecord(
            id=ids[number] if ids else new_id(),
            chat_id=chat_id,
            owner="local",
            prev_turn_id=turns[-1].id if turns else None,
            role="assistant" if number % 2 else "user",
            status=fields.get("status", "complete"),
            created_at=number,
            generation=GENERATION,
            system=fields.get("system"),
            params=fields.get("params", {"temperature": number % 3}),
            last_seq=len(lengths) + 2,
        )
        turns.append(turn)
        blocks.extend(
            BlockRecord(new_id(), turn.id, Block(place, "text", f"{number} {place} " + "é" * length), 2, 2, 0)
            for place, length in enumerate(lengths)
        )
    return InsertTurns(turns=turns, blocks=blocks)
