"""A second node is lost before its journal has a page of the turn that it continues."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from tests.nodes.cluster import Cluster
from tests.nodes.recovery.pairs import (
    Held,
    Pair,
    check,
    codes_of,
    cursor_of,
    engines,
    read,
    read_until,
    taken_over,
)
from tests.turnlog.watching import Client
from turnstream.config import CapabilitySettings, EngineSettings
from turnstream.core.cursor import parse_cursor
from turnstream.core.stream_events import TextDelta
from turnstream.engine import Engine
from turnstream.simulator.script import story
from turnstream.store.operations.content import SaveAnnotations
from turnstream.store.operations.progress import RetractBlocks
from turnstream.store.queries import AttemptsOfTurn

EVENTS = 200
STORY = f"sim/story:events={EVENTS},pace=0.01"
WHOLE = "".join(event.text for event in story(EVENTS, 0) if isinstance(event, TextDelta))
SECONDS = 60.0


@pytest.fixture
async def pair(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Pair]:
    """Engines whose journals only the test writes. A parameter of True lets models continue their text."""
    prefills = {"sim/*": CapabilitySettings(prefill=request.param)}
    settings = EngineSettings(journal_interval=SECONDS)
    options = {"settings": settings, "capabilities": prefills}
    async with engines(cluster, monkeypatch, options=options) as pair:
        yield pair


def more(client: Client) -> bool:
    return bool(client.now.blocks) and len(client.now.blocks[-1].text_content or "") > 100


async def lose(pair: Pair, turn_id: str, owner: Engine, by: Engine) -> None:
    """Let `by` take a turn over from `owner`, which is lost and writes no more."""
    executor = owner.commands.registry.executor(turn_id)
    assert executor is not None
    async with taken_over(pair, turn_id, by=by):
        pass
    executor.supersede()
    await executor.ended.wait()


@pytest.mark.requirement("Q3")
@pytest.mark.parametrize("pair", [False, True], ids=["begins-again", "continues"], indirect=True)
async def test_a_second_crash_before_the_first_page_restarts_the_step_once_more(pair: Pair) -> None:
    turn = await pair.one.send("hello", model=STORY)
    client, late = Client(), Client()
    await read_until(pair.one, turn.id, client, more)
    await pair.one._journal.write()
    await lose(pair, turn.id, pair.one, pair.two)
    await read_until(pair.two, turn.id, client, lambda client: "recovered" in codes_of(client))
    await read_until(pair.two, turn.id, client, more)
    await lose(pair, turn.id, pair.two, pair.one)  # no page was written since the first takeover
    for watcher in (client, late):
        subscription = await pair.one.subscribe(turn.id, after=cursor_of(watcher))
        async with asyncio.timeout(SECONDS):
            await read(subscription, watcher)
    (block,) = await check(pair, turn.id, client, late)
    assert block.text_content == WHOLE, "each character once"
    assert codes_of(client).count("recovered") == 2
    cursors = [parse_cursor(frame.id) for frame in client.frames if frame.name == "block_delta"]
    assert all(one is not None and two is not None and one < two for one, two in pairwise(cursors))
    attempts = await pair.store.read(AttemptsOfTurn(turn_id=turn.id))
    assert [attempt.outcome for attempt in attempts][-1] == "complete"
    assert len(attempts) <= 3, "one call for each node that had the turn"


@pytest.mark.requirement("Q3")
@pytest.mark.parametrize("rewrites", [False, True], ids=["first-page", "rewritten"])
@pytest.mark.parametrize(
    ("pair", "resets"), [(False, [0]), (True, [])], ids=["begins-again", "continues"], indirect=["pair"]
)
async def test_a_second_crash_before_the_first_event_loses_nothing(
    pair: Pair, resets: list[int], *, rewrites: bool
) -> None:
    """The first entry of the second owner has the text of the first. It also stays after a rewrite."""
    turn = await pair.one.send("hello", model=STORY)
    client, late = Client(), Client()
    await read_until(pair.one, turn.id, client, more)
    await pair.one._journal.write()
    seen = len(client.frames)
    held = pair.store.before = Held(lambda write: isinstance(write, RetractBlocks | SaveAnnotations))
    owner = pair.one.commands.registry.executor(turn.id)
    async with taken_over(pair, turn.id):
        pass
    await held.began.wait()
    second = pair.two.commands.registry.executor(turn.id)
    assert owner is not None
    assert second is not None
    if rewrites:
        pair.two._journal.renew_soon()
        await pair.two._journal.write()
    owner.supersede()
    async with taken_over(pair, turn.id, by=pair.one):
        pass
    held.go.set()
    await asyncio.gather(owner.ended.wait(), second.ended.wait())
    for watcher in (client, late):
        subscription = await pair.one.subscribe(turn.id, after=cursor_of(watcher))
        async with asyncio.timeout(SECONDS):
            await read(subscription, watcher)
    (block,) = await check(pair, turn.id, client, late)
    assert block.text_content == WHOLE, "each character once"
    assert [frame.data["block_index"] for frame in client.frames if frame.name == "block_reset"] == resets
    assert [frame.name for frame in client.frames[seen:]].count("block_start") <= len(resets)
    assert "truncated" not in codes_of(client)
