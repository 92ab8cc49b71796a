"""A provider that stores its answer: the new node reads the answer that the lost node had requested."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.nodes.cluster import Cluster
from tests.nodes.recovery.pairs import SECONDS, Pair, check, codes_of, engines, read_until, resume, taken_over
from tests.stored_answers import BACKGROUND, RULES, cancelled_in, made_in, provider_at, redacted, text_of
from tests.turnlog.watching import Client
from turnstream.model_loop.estimates import tokens_of
from turnstream.server.auth import Principal
from turnstream.simulator.background import RESPONSES_KEPT
from turnstream.simulator.server import SimulatorServer
from turnstream.simulator.texts import THOUGHT, UNUSUAL
from turnstream.store.operations.nodes import ClaimTurn
from turnstream.store.queries import AttemptsOfTurn
from turnstream.turns.preparation import TurnPreparation

EVENTS = 300
WHOLE = text_of(EVENTS)
STORY = f"stored/story:events={EVENTS},pace=0.01"
REDACTED = redacted(WHOLE)


async def prepare(_turn: TurnPreparation, _principal: Principal) -> None:
    """Change nothing."""


@pytest.fixture
def requests() -> list[str]:
    """Return the list of lines that the provider reports, one for each request."""
    return []


@pytest.fixture
async def provider(requests: list[str]) -> AsyncIterator[SimulatorServer]:
    async with SimulatorServer(report=requests.append) as provider:
        yield provider


@pytest.fixture
def options(provider: SimulatorServer) -> dict[str, Any]:
    """Return the options of an engine that calls the provider."""
    return {"providers": provider_at(provider.port)}


@pytest.fixture
async def pair(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> AsyncIterator[Pair]:
    async with engines(cluster, monkeypatch, options=options) as pair:
        yield pair


def resets_of(client: Client) -> list[int]:
    return [frame.data["block_index"] for frame in client.frames if frame.name == "block_reset"]


async def lost(pair: Pair, model: str, *, blocks: int = 1, length: int = 100) -> tuple[str, Client]:
    """Start a turn. Return its id in mid-answer, once the journal has its text and the client has seen it."""
    turn = await pair.one.send("hello", model=model, params=BACKGROUND)
    client = Client()
    await read_until(
        pair.one,
        turn.id,
        client,
        lambda client: (
            len(client.now.blocks) == blocks and len(client.now.blocks[-1].text_content or "") > length
        ),
    )
    await pair.one._journal.write()
    return turn.id, client


@pytest.mark.requirement("Q3")
async def test_the_answer_is_read_again_and_nothing_is_retracted(pair: Pair, requests: list[str]) -> None:
    turn_id, client = await lost(pair, STORY)
    async with taken_over(pair, turn_id):
        pass
    late = Client()
    await resume(pair, turn_id, client)
    await resume(pair, turn_id, late)
    (block,) = await check(pair, turn_id, client, late)
    assert block.text_content == WHOLE, "each character once"
    assert resets_of(client) == []
    assert codes_of(client) == ["recovered"]
    assert made_in(requests) == 1
    (call,) = await pair.store.read(AttemptsOfTurn(turn_id=turn_id))
    assert (call.outcome, call.estimated) == ("complete", False), "the provider's figures, once"
    assert (await pair.end_of(turn_id))[0].usage == call.usage


@pytest.mark.requirement("Q6")
async def test_a_stored_answer_moves_when_the_drain_begins(pair: Pair, requests: list[str]) -> None:
    turn_id, client = await lost(pair, STORY)
    late = Client()
    await pair.one.drain(SECONDS)
    assert "turn_complete" not in [frame.name for frame in client.frames]
    await resume(pair, turn_id, client)
    await resume(pair, turn_id, late)
    (block,) = await check(pair, turn_id, client, late)
    assert block.text_content == WHOLE, "each character once"
    assert resets_of(client) == []
    assert codes_of(client)[-1] == "moved"
    assert made_in(requests) == 1


@pytest.mark.requirement("Q3")
async def test_a_thought_before_the_text_stays(pair: Pair, requests: list[str]) -> None:
    turn_id, client = await lost(pair, "stored/thinking:pace=0.05", blocks=2, length=10)
    async with taken_over(pair, turn_id):
        pass
    late = Client()
    await resume(pair, turn_id, client)
    await resume(pair, turn_id, late)
    thought, text = await check(pair, turn_id, client, late)
    assert (thought.text_content, text.text_content) == (THOUGHT, UNUSUAL)
    assert resets_of(client) == []
    assert len([line for line in requests if "went away" not in line]) == 1


@pytest.mark.requirement("Q3")
async def test_an_answer_that_the_provider_does_not_have_begins_again(
    pair: Pair, provider: SimulatorServer, requests: list[str], session: aiohttp.ClientSession
) -> None:
    turn_id, client = await lost(pair, STORY)
    for number in range(RESPONSES_KEPT):  # the provider keeps only the newest answers
        other = {"model": "demo", "input": f"question {number}", "background": True}
        async with session.post(f"{provider.url}/v1/responses", json=other) as answer:
            assert answer.status == 200
    async with taken_over(pair, turn_id):
        pass
    await resume(pair, turn_id, client)
    (block,) = await check(pair, turn_id, client)
    assert block.text_content == WHOLE
    assert resets_of(client) == [0]
    assert codes_of(client) == ["recovered", "restarted"]
    assert made_in(requests) == 2
    failed, made = await pair.store.read(AttemptsOfTurn(turn_id=turn_id))
    assert (failed.estimated, failed.usage.input_tokens) == (True, tokens_of(len("hello")))
    assert failed.usage.output_tokens is not None
    assert tokens_of(100) <= failed.usage.output_tokens < tokens_of(len(WHOLE)), "the lost call's text"
    assert (made.outcome, made.estimated) == ("complete", False)
    stored, _ = await pair.end_of(turn_id)
    assert stored.usage == failed.usage.plus(made.usage)
    assert stored.cost_estimated


@pytest.mark.requirement("K1", "Q6")
async def test_a_redacted_answer_moves_without_a_reset(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], requests: list[str]
) -> None:
    assert REDACTED != WHOLE
    async with engines(cluster, monkeypatch, options={**options, "redaction": RULES}) as pair:
        turn_id, client = await lost(pair, STORY, length=400)
        await pair.one.drain(SECONDS)
        await resume(pair, turn_id, client)
        (block,) = await check(pair, turn_id, client)
    assert block.text_content == REDACTED
    assert resets_of(client) == []
    assert codes_of(client)[-1] == "moved"
    assert made_in(requests) == 1


@pytest.mark.requirement("K1", "Q3")
async def test_an_answer_that_another_rule_redacts_begins_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    ruled = {**options, "redaction": RULES}
    async with engines(cluster, monkeypatch, options=options, other=ruled) as pair:
        turn_id, client = await lost(pair, STORY, length=REDACTED.index("[metal]") + 100)
        async with taken_over(pair, turn_id):
            pass
        await resume(pair, turn_id, client)
        (block,) = await check(pair, turn_id, client)
    assert block.text_content == REDACTED
    assert resets_of(client) == [0]
    assert codes_of(client) == ["recovered", "restarted"]


@pytest.mark.requirement("Q6")
async def test_an_answer_stays_if_a_hook_may_choose_another_model(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    async with engines(cluster, monkeypatch, options={**options, "prepare": prepare}) as pair:
        turn_id, client = await lost(pair, STORY)
        await pair.one.drain(SECONDS)
        await resume(pair, turn_id, client)
        (block,) = await check(pair, turn_id, client)
    assert block.text_content == WHOLE
    assert codes_of(client) == [], "the drain waited for its end"


@pytest.mark.requirement("Q3", "A4")
async def test_a_lost_turn_that_is_stopped_cancels_its_answer_at_the_provider(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], requests: list[str]
) -> None:
    async with engines(cluster, monkeypatch, options=options) as pair:
        turn_id, _ = await lost(pair, STORY)
        turn, _ = await pair.end_of(turn_id)
        claim = ClaimTurn(turn_id=turn_id, node=pair.two._node.id, generation=turn.generation)
        await pair.two.commands.recovery.cancel(await pair.store.write(claim))
    assert cancelled_in(requests) == 1, "the engine has waited for it"


@pytest.mark.requirement("Q3")
async def test_an_answer_that_is_not_read_again_is_cancelled(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], requests: list[str]
) -> None:
    async with engines(cluster, monkeypatch, options={**options, "prepare": prepare}) as pair:
        turn_id, client = await lost(pair, STORY)
        async with taken_over(pair, turn_id):
            pass
        await resume(pair, turn_id, client)
        await check(pair, turn_id, client)
    assert resets_of(client) == [0]
    assert made_in(requests) == 2
    assert cancelled_in(requests) == 1
