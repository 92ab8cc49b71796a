"""Events of a source other than the model's, its exceptions, and values that are not events."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.store.reads import AnnotationsAfter
from tests.turnlog.watching import Client
from tests.turns.executor.texts import text_block
from tests.turns.world import OWNER, Feed, World
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    ContentBlockStart,
    SignatureDelta,
    StreamError,
    TextDelta,
)
from turnstream.core.turn_events import Data, Notice, Source, StepStart, ToolProgress, TurnComplete
from turnstream.errors import RateLimited

# -- foreign sources
# ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("F7")
async def test_events_of_the_source_s_own_last_or_pass(world: World) -> None:
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    turn_id = executor.turn.id
    early = await world.watch(turn_id)
    client = Client()
    client.receive(await early.next() or b"")
    await feed.say(Data("plan", {"step": 1}), Data("live", 2, transient=True), Source("s1", title="One"))
    await feed.say(Notice("info", "kept"), StepStart(7), ToolProgress("t", "…"), TextDelta(0, "text"))
    while early.cursor.seq < executor.log.head:
        client.receive(await early.next() or b"")
    names = [frame.name for frame in client.frames]
    assert [names.count(name) for name in ("data", "source", "notice", "tool_progress")] == [2, 1, 1, 1]
    late = await world.watch(turn_id)
    second = Client()
    while late.cursor.seq < executor.log.head:
        second.receive(await late.next() or b"")
    assert [frame.name for frame in second.frames] == [
        "turn_start",
        "data",
        "source",
        "notice",
        "block_catchup",
    ]
    rows = await world.store.read(AnnotationsAfter(turn_id=turn_id, seq=0, limit=10))
    assert len(rows) == 3
    feed.end()


@pytest.mark.requirement("F7", "D4", "K3")
@pytest.mark.parametrize(
    ("error", "code", "debug_words"),
    [
        (RateLimited("slow down", detail="account 77"), "rate_limit_error", "slow down: account 77"),
        (ValueError("secret inside"), "source_error", "ValueError: secret inside"),
    ],
)
async def test_a_source_s_exception_is_the_turn_s_error(
    tmp_path: Path, error: Exception, code: str, debug_words: str
) -> None:
    for debug in (False, True):
        async with World(tmp_path / f"{debug}.sqlite", debug=debug) as world:
            feed = Feed()
            executor = await world.start_foreign(feed.events())
            await feed.say(TextDelta(0, "half"))
            feed.end(error)
            turn = (await world.ended(executor.turn.id)).turn
            assert (turn.status, turn.error_code) == ("error", code)
            assert (turn.error_message == debug_words) == debug
            client = await world.watched(executor.turn.id)
            assert client.frames[-1].data["error"] == turn.error_message
            assert client.now.blocks == [Block(0, "text", "half", partial=True)]


@pytest.mark.requirement("D4")
async def test_an_error_inside_the_stream_keeps_what_came_before(world: World) -> None:
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    feed.put(*text_block(0, "whole"), TextDelta(1, "half"))
    feed.put(StreamError("throttling", "rate_limit_error", "too many"))
    feed.end()
    client = await world.watched(executor.turn.id)
    turn = (await world.ended(executor.turn.id)).turn
    assert turn.error_code == "rate_limit_error"
    assert client.now.blocks == [Block(0, "text", "whole"), Block(1, "text", "half", partial=True)]
    assert client.frames[-1].data["blocks_completed"] == 1


@pytest.mark.requirement("F7", "E7")
async def test_an_interrupt_closes_the_source(world: World) -> None:
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    await feed.say(TextDelta(0, "half"))
    await world.commands.interrupt(OWNER, executor.turn.id)
    assert feed.closed.is_set()


@pytest.mark.parametrize(
    "wrong",
    [
        TextDelta(0, b"bytes"),  # type: ignore[arg-type]
        TextDelta(0, None),  # type: ignore[arg-type]
        SignatureDelta(0, "\ud800"),
        ContentBlockStart(0, "text", {"at": object()}),
        ContentBlockStart(0, "sonnet"),  # type: ignore[arg-type]
        Data("d", object()),
        Source(object()),  # type: ignore[arg-type]
        TurnComplete("end_turn", None, None, 0),
        {"type": "text_delta", "index": 0, "text": "a dictionary"},
        "text",
        None,
    ],
    ids=lambda event: repr(event).partition(" at 0x")[0],
)
@pytest.mark.requirement("F7")
async def test_what_is_no_event_ends_its_own_turn_and_nothing_else(world: World, wrong: Any) -> None:
    healthy, feed = Feed(), Feed()
    other = await world.start_foreign(healthy.events())
    await healthy.say(TextDelta(0, "fine"))
    executor = await world.start_foreign(feed.events())
    watching = asyncio.create_task(world.watched(executor.turn.id))
    await feed.say(TextDelta(0, "good"))
    feed.put(TextDelta(0, " and "), wrong, TextDelta(0, "never"))
    client = await watching
    turn = (await world.ended(executor.turn.id)).turn
    assert (turn.status, turn.error_code) == ("error", "source_error")
    assert client.now.blocks == [row.block for row in await world.stored(executor.turn.id)]
    assert executor.unsaved is None
    await world.journal.write()
    healthy.end()
    assert (await world.ended(other.turn.id)).turn.status == "complete"


async def test_half_a_character_at_the_end_is_shown_as_it_is_stored(world: World) -> None:
    """A watcher that joins while the end is being stored does not get the repaired half twice."""
    joined: list[Client] = []

    async def join(operation: object) -> None:
        if type(operation).__name__ == "FinishTurn":
            subscription = await world.watch(executor.turn.id)
            client = Client()
            while subscription.cursor.seq < executor.log.head:
                client.receive(await subscription.next() or b"")
            joined.append(client)

    feed = Feed()
    executor = await world.start_foreign(feed.events())
    await feed.say(TextDelta(0, "half \ud83d"))
    world.store.before = join
    await world.commands.interrupt(OWNER, executor.turn.id)
    client = await world.watched(executor.turn.id, joined[0])
    assert client.now.blocks == [Block(0, "text", "half \ufffd", partial=True)]
    assert [row.block for row in await world.stored(executor.turn.id)] == client.now.blocks
