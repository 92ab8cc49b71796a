"""A model that continues its own text begins where the text of the lost node ended. Nothing is retracted."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tests.nodes.cluster import Cluster
from tests.nodes.recovery.pairs import Pair, check, codes_of, engines, read_until, resume, taken_over
from tests.turnlog.watching import Client
from turnstream.config import CapabilitySettings
from turnstream.core.stream_events import TextDelta
from turnstream.simulator.script import story

EVENTS = 300
STORY = f"sim/story:events={EVENTS},pace=0.01"
WHOLE = "".join(event.text for event in story(EVENTS, 0) if isinstance(event, TextDelta))


@pytest.fixture
async def pair(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    prefills = {"sim/*": CapabilitySettings(prefill=True)}
    async with engines(cluster, monkeypatch, options={"capabilities": prefills}) as pair:
        yield pair


def has_text(length: int, blocks: int = 1) -> Callable[[Client], bool]:
    return lambda client: (
        len(client.now.blocks) == blocks and len(client.now.blocks[-1].text_content or "") > length
    )


def resets_of(client: Client) -> list[int]:
    return [frame.data["block_index"] for frame in client.frames if frame.name == "block_reset"]


async def journalled(pair: Pair) -> None:
    """Wait until the journal of the first engine has all shown text."""
    await pair.one._journal.write()


@pytest.mark.requirement("Q3")
async def test_the_text_goes_on_and_nothing_is_retracted(pair: Pair) -> None:
    turn = await pair.one.send("hello", model=STORY)
    client, late = Client(), Client()
    await read_until(pair.one, turn.id, client, has_text(100))
    await journalled(pair)
    async with taken_over(pair, turn.id):
        pass
    await asyncio.gather(resume(pair, turn.id, client), resume(pair, turn.id, late))
    (block,) = await check(pair, turn.id, client, late)
    assert block.text_content == WHOLE, "each character once"
    assert resets_of(client) == resets_of(late) == []
    assert codes_of(client) == ["recovered"], "no text that the client has is lost"


@pytest.mark.requirement("Q3")
async def test_text_that_the_journal_did_not_get_is_made_again(pair: Pair) -> None:
    """The watcher gets a notice of the loss, and no character is doubled."""
    turn = await pair.one.send("hello", model=STORY)
    client = Client()
    await read_until(pair.one, turn.id, client, has_text(50))
    await journalled(pair)
    await read_until(pair.one, turn.id, client, has_text(400))
    async with taken_over(pair, turn.id):
        pass
    await resume(pair, turn.id, client)
    (block,) = await check(pair, turn.id, client)
    assert block.text_content == WHOLE
    assert resets_of(client) == []


@pytest.mark.requirement("Q3")
async def test_a_later_step_continues_too(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []

    async def mend(thing: str) -> str:
        """Mend a thing."""
        runs.append(thing)
        return f"{thing} is whole again, after a long time in the workshop of the old town by the river"

    options = {"tools": [mend], "capabilities": {"sim/*": CapabilitySettings(prefill=True)}}
    async with engines(cluster, monkeypatch, options=options) as pair:
        turn = await pair.one.send("go", model="sim/tools:pace=0.1")
        client = Client()
        await read_until(pair.one, turn.id, client, has_text(20, blocks=6))
        await journalled(pair)
        async with taken_over(pair, turn.id):
            pass
        await resume(pair, turn.id, client)
        blocks = await check(pair, turn.id, client)
        results = [(block.content or {})["content"] for block in blocks if block.block_type == "tool_result"]
        assert blocks[-1].text_content == f"The tools say: {'; '.join(results)}"
        assert len(runs) == 2
        assert resets_of(client) == []
        assert codes_of(client) == ["recovered"]


@pytest.mark.requirement("Q3")
async def test_a_model_that_refuses_its_own_text_begins_again(pair: Pair) -> None:
    turn = await pair.one.send("hello", model=f"{STORY},prefill=refuse")
    client = Client()
    await read_until(pair.one, turn.id, client, has_text(100))
    await journalled(pair)
    async with taken_over(pair, turn.id):
        pass
    await resume(pair, turn.id, client)
    (block,) = await check(pair, turn.id, client)
    assert block.text_content == WHOLE
    assert resets_of(client) == [0]
    assert codes_of(client) == ["recovered", "restarted"]
