"""Stores whose writes a test holds back."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.store.samples import (
    DEADLINE,
    Hold,
)
from turnstream.store.base import Operation, TurnRecord
from turnstream.store.queries import AllBlocks
from turnstream.store.sql import SqlStore


@asynccontextmanager
async def opened(database: Path, **settings: Any) -> AsyncIterator[SqlStore]:
    store = SqlStore(f"sqlite:///{database}", **settings)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def held(store: SqlStore) -> AsyncIterator[asyncio.Future[None]]:
    """Within this context each writer is busy with a transaction. Writes meanwhile form its next group.

    Yields the answer of the first writer's transaction.
    """
    let_go = threading.Event()
    holds = [Hold(entered=threading.Event(), let_go=let_go) for _ in store._writers]
    answers = [writer.submit(hold) for writer, hold in zip(store._writers, holds, strict=True)]
    try:
        for hold in holds:
            assert await asyncio.to_thread(hold.entered.wait, DEADLINE)
        yield answers[0]
    finally:
        let_go.set()
        await asyncio.wait(answers, timeout=DEADLINE)


async def queue(store: SqlStore, operations: list[Operation[Any]]) -> list[asyncio.Task[Any]]:
    """Return tasks that have put their writes into the queue, in this order."""
    tasks = [asyncio.create_task(store.write(operation)) for operation in operations]
    await asyncio.sleep(0)
    return tasks


async def sequences(store: SqlStore, turn: TurnRecord) -> list[int]:
    return [row.block.sequence for row in await store.read(AllBlocks(turn_id=turn.id))]
