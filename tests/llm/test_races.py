"""Streams that are left, cancelled and read by several tasks at any moment. Each reader has the beginning of
the answer, and nothing stays open."""

from __future__ import annotations

import asyncio
import random

import pytest

import turnstream as ts
from tests.llm.conftest import llm_at
from turnstream.simulator.server import SimulatorServer

pytestmark = pytest.mark.requirement("F1", "F8")
DEADLINE = 30.0
STORY = "story:events=150,seed=5"


async def _text(stream: ts.MessageStream[None], max_events: int, said: list[str]) -> None:
    async for piece in stream.text:
        said.append(piece)
        if len(said) >= max_events:
            return


async def _events(stream: ts.MessageStream[None], said: list[str]) -> None:
    async for event in stream:
        match event:
            case ts.BlockDelta(field="text", value=value):
                said.append(value)
            case ts.BlockCatchup(accumulated_text=str(text)):
                said[:] = [text]
            case _:
                pass


async def _turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def _use(llm: ts.LLM, draw: random.Random, whole: str) -> str:
    """One stream, its readers, the way it is left, and its outcome."""
    said: list[list[str]] = [[] for _ in range(draw.randint(1, 3))]
    async with llm.stream("go") as stream:
        readers = [
            asyncio.create_task(
                _text(stream, draw.randint(1, 400), one) if draw.random() < 0.6 else _events(stream, one)
            )
            for one in said
        ]
        await _turns(draw.randint(0, 300))
        if draw.random() < 0.3:
            draw.choice(readers).cancel()
        if draw.random() < 0.5:
            assert await stream.final_text() == whole
    ended = await asyncio.gather(*readers, return_exceptions=True)
    for outcome in ended:
        assert outcome is None or isinstance(outcome, ts.StreamClosed | asyncio.CancelledError), outcome
    for one in said:
        assert whole.startswith("".join(one))
    message = stream.message
    assert whole.startswith(message.text)
    assert message.complete == (stream.error is None)
    assert message.text == whole or not message.complete
    return "whole" if message.complete else "left"


@pytest.mark.parametrize("wire", ["anthropic", "ollama"])
async def test_streams_used_in_every_way_at_once(simulator: SimulatorServer, wire: str) -> None:
    whole = (await llm_at(simulator.url, wire, f"{STORY},pace=0").collect("go")).text
    draw = random.Random(f"races of {wire}")
    outcomes: list[str] = []
    async with llm_at(simulator.url, wire, f"{STORY},pace=0.0005") as llm:

        async def user(seed: int) -> None:
            own = random.Random(seed)
            for _ in range(4):
                outcomes.append(await _use(llm, own, whole))  # noqa: PERF401 - what was before a cancel counts

        users = [asyncio.create_task(user(draw.randrange(10**9))) for _ in range(8)]
        async with asyncio.timeout(DEADLINE):
            await _turns(500)
            users[0].cancel()  # in whatever it is about to do
            await asyncio.gather(*users, return_exceptions=True)
    for one in users[1:]:
        one.result()
    assert {"whole", "left"} == set(outcomes), "both took place"
