"""Rows of the store, read again."""

from __future__ import annotations

from turnstream.store.base import BlockRecord, TurnRecord
from turnstream.store.queries import (
    AllBlocks,
    GetTurn,
)
from turnstream.store.sql import SqlStore


async def reread(store: SqlStore, turn: TurnRecord) -> TurnRecord:
    return await store.read(GetTurn(owner=None, turn_id=turn.id))


async def blocks_of(store: SqlStore, turn: TurnRecord) -> list[BlockRecord]:
    return await store.read(AllBlocks(turn_id=turn.id))
