"""A connection that breaks while it brings an answer that the provider stores: the answer is read again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import turnstream as ts
from tests.nodes.proxy import TcpProxy
from tests.nodes.recovery.pairs import codes_of, read, read_until
from tests.stored_answers import BACKGROUND, RULES, cancelled_in, made_in, provider_at, redacted, text_of
from tests.turnlog.watching import Client
from turnstream.config import RetrySettings
from turnstream.core.usage import Usage
from turnstream.engine import Engine
from turnstream.safety.redaction import Redaction
from turnstream.simulator.server import SimulatorServer

EVENTS = 200
WHOLE = text_of(EVENTS)
STORY = f"stored/story:events={EVENTS}"
RETRY = RetrySettings(delay=0.01, spacing=0.01)


@pytest.fixture
def requests() -> list[str]:
    """Return the list of lines that the provider reports, one for each request."""
    return []


@pytest.fixture
async def provider(requests: list[str]) -> AsyncIterator[SimulatorServer]:
    async with SimulatorServer(report=requests.append) as provider:
        yield provider


def settings(port: int) -> dict[str, Any]:
    return {"providers": provider_at(port), "retry": RETRY}


@pytest.mark.requirement("J4", "I3")
@pytest.mark.parametrize("redaction", [Redaction(), RULES], ids=["plain", "redacted"])
async def test_an_answer_is_read_again_as_often_as_it_moves_on(
    tmp_path: Path, provider: SimulatorServer, requests: list[str], redaction: Redaction
) -> None:
    client = Client()
    with TcpProxy(("127.0.0.1", provider.port)) as proxy:
        options = {**settings(proxy.port), "redaction": redaction}
        async with Engine(f"sqlite:///{tmp_path}/a.sqlite", **options) as engine:
            turn = await engine.send("hello", model=f"{STORY},pace=0.01", params=BACKGROUND)
            for shown in range(100, 700, 100):
                await read_until(engine, turn.id, client, lambda client, shown=shown: length(client) > shown)
                proxy.cut()
            await read(await engine.subscribe(turn.id, after=None), late := Client())
            state = await turn.wait()
    text = redacted(WHOLE) if redaction is RULES else WHOLE
    assert [row.block.text_content for row in state.blocks] == [text], "each character once"
    assert late.now.blocks == [row.block for row in state.blocks]
    assert not [frame for frame in client.frames if frame.name == "block_reset"]
    assert set(codes_of(client)) == {"continued"}
    assert made_in(requests) == 1
    *failed, last = state.attempts
    assert len(failed) >= 6
    assert {(attempt.outcome, attempt.usage) for attempt in failed} == {("stream_incomplete", Usage())}
    assert last.outcome == "complete"
    assert state.turn.usage == last.usage
    assert not state.turn.cost_estimated


def length(client: Client) -> int:
    return len(client.now.blocks[-1].text_content or "") if client.now.blocks else 0


@pytest.mark.requirement("J4")
async def test_the_library_reads_an_answer_again(provider: SimulatorServer, requests: list[str]) -> None:
    llm = ts.LLM(f"{STORY},fault=cut,after=90", **settings(provider.port))
    message = await llm.collect("hello", params=BACKGROUND)
    assert message.text == WHOLE
    assert made_in(requests) == 1


@pytest.mark.requirement("A4", "J4")
async def test_an_interrupt_cancels_the_answer_at_its_provider(
    tmp_path: Path, provider: SimulatorServer, requests: list[str]
) -> None:
    async with Engine(f"sqlite:///{tmp_path}/a.sqlite", **settings(provider.port)) as engine:
        turn = await engine.send("hello", model=f"{STORY},pace=0.05", params=BACKGROUND)
        await read_until(engine, turn.id, Client(), lambda client: length(client) > 50)
        await turn.interrupt()
    assert cancelled_in(requests) == 1, "the engine has waited for it"


@pytest.mark.requirement("J4")
async def test_an_answer_that_a_fallback_replaces_is_cancelled(
    tmp_path: Path, provider: SimulatorServer, requests: list[str]
) -> None:
    options = settings(provider.port)
    options["retry"] = RETRY.model_copy(update={"attempts": 1})
    async with Engine(f"sqlite:///{tmp_path}/a.sqlite", **options) as engine:
        model = f"{STORY},pace=0.01,fault=cut,after=60"
        turn = await engine.send("hello", model=model, fallbacks=["sim/echo:pace=0"], params=BACKGROUND)
        state = await turn.wait()
    assert [row.block.text_content for row in state.blocks] == ["hello"]
    assert cancelled_in(requests) == 1


async def test_an_answer_that_ends_is_not_cancelled(
    tmp_path: Path, provider: SimulatorServer, requests: list[str]
) -> None:
    async with Engine(f"sqlite:///{tmp_path}/a.sqlite", **settings(provider.port)) as engine:
        turn = await engine.send("hello", model=STORY, params=BACKGROUND)
        state = await turn.wait()
    assert state.turn.status == "complete"
    assert cancelled_in(requests) == 0


async def test_leaving_a_stream_of_the_library_cancels_its_answer(
    provider: SimulatorServer, requests: list[str]
) -> None:
    llm = ts.LLM(f"{STORY},pace=0.05", **settings(provider.port))
    async with llm, llm.stream("hello", params=BACKGROUND) as stream:
        async for event in stream:
            if isinstance(event, ts.BlockDelta):
                break
    assert cancelled_in(requests) == 1
