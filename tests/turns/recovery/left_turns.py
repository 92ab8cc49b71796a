"""Turns that a crash has left, and damage to their rows."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

from tests.turnlog.watching import Client
from tests.turns.world import OWNER, SECONDS, Feed, World
from turnstream.core.cursor import parse_cursor
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    TextDelta,
)
from turnstream.core.turn_events import Source
from turnstream.engine import Engine
from turnstream.turns.new_turns import TurnState

KEPT = "kept"


async def leave_a_turn(world: World, text: str = KEPT) -> tuple[str, str | None]:
    """Begin a turn with a stored block, an annotation and a journalled block. Return its id, and the events
    that a watcher saw."""
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    await feed.say(
        ContentBlockStart(0, "text"), TextDelta(0, "whole"), ContentDelta(0, {"k": 1}), ContentBlockStop(0)
    )
    await feed.say(Source("s1"))
    await feed.say(ContentBlockStart(1, "text"), TextDelta(1, text))
    await world.journal.write()
    return executor.turn.id, str(executor.log.head_cursor)


async def leave_turns(path: Path, count: int) -> list[tuple[str, str | None]]:
    async with World(path) as world:
        left = [await leave_a_turn(world) for _ in range(count)]
        await world.crash()
    return left


def damage(path: Path, statement: str, *values: Any) -> None:
    connection = sqlite3.connect(path)
    try:
        assert connection.execute(statement, values).rowcount != 0, statement
        connection.commit()
    finally:
        connection.close()


async def watch_to_the_end(engine: Engine, turn_id: str, cursor: str | None = None) -> Client:
    client = Client()
    after = parse_cursor(cursor) if cursor is not None else None
    async with asyncio.timeout(SECONDS):
        subscription = await engine.subscribe(turn_id, owner=OWNER, after=after)
        while (data := await subscription.next()) is not None:
            client.receive(data)
    return client


async def state_of(engine: Engine, turn_id: str) -> TurnState:
    return await engine.commands.state(OWNER, turn_id)


def texts(client: Client) -> list[str | None]:
    return [block.text_content for block in client.now.blocks]
