"""The usage of model calls that were lost with their node: it is estimated, and counts in the turn's cost."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from tests.nodes.cluster import Cluster
from tests.nodes.recovery.pairs import Pair, check, engines, read_until, resume, taken_over
from tests.turnlog.watching import Client
from turnstream.config import CapabilitySettings, EngineSettings, PriceSettings
from turnstream.core.usage import ORPHANED, CallAttempt
from turnstream.engine import Engine
from turnstream.model_loop.estimates import tokens_of
from turnstream.store.queries import AttemptsOfTurn
from turnstream.turns.takeover.restarting import MOST_RECOVERIES

STORY = "sim/story:events=300,pace=0.01"
PRICE = PriceSettings(input_per_million=Decimal(500_000), output_per_million=Decimal(1_000_000))
"""Half a dollar for a token of input, and one for a token of output."""
SECONDS = 60.0


@pytest.fixture
async def pair(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Pair]:
    prefills = {"sim/*": CapabilitySettings(prefill=True)} if getattr(request, "param", False) else {}
    settings = EngineSettings(journal_interval=SECONDS)  # only the test writes pages
    options = {"settings": settings, "capabilities": prefills, "prices": {"*/*": PRICE}}
    async with engines(cluster, monkeypatch, options=options) as pair:
        yield pair


async def lose(pair: Pair, turn_id: str, client: Client, owner: Engine, length: int) -> range:
    """Let a node write a journal with so much text of a turn, and lose it.

    Return the output tokens that the journal has: a range, because the text grows during the write.
    """
    await read_until(owner, turn_id, client, lambda client: text_length(client) > length)
    executor = owner.commands.registry.executor(turn_id)
    assert executor is not None
    block = executor.log.open_block
    assert block is not None
    least = block.length
    await owner._journal.write()
    most = block.length
    by = pair.two if owner is pair.one else pair.one
    async with taken_over(pair, turn_id, by=by):
        pass
    executor.supersede()  # the lost node writes no more
    await executor.ended.wait()
    return range(tokens_of(least), tokens_of(most) + 1)


def text_length(client: Client) -> int:
    return len(client.now.blocks[-1].text_content or "") if client.now.blocks else 0


async def attempts_of(pair: Pair, turn_id: str) -> list[CallAttempt]:
    return list(await pair.store.read(AttemptsOfTurn(turn_id=turn_id)))


def cost_of(attempts: list[CallAttempt]) -> Decimal:
    tokens = [(call.usage.input_tokens or 0, call.usage.output_tokens or 0) for call in attempts]
    return sum((Decimal(given) / 2 + made for given, made in tokens), Decimal(0))


@pytest.mark.requirement("Q3")
@pytest.mark.parametrize("pair", [False, True], ids=["begins-again", "continues"], indirect=True)
async def test_a_lost_call_counts_beside_the_call_that_replaces_it(pair: Pair) -> None:
    turn = await pair.one.send("hello there", model=STORY)
    client = Client()
    output = await lose(pair, turn.id, client, pair.one, 100)
    await resume(pair, turn.id, client)
    await check(pair, turn.id, client)
    lost, made = await attempts_of(pair, turn.id)
    assert (lost.step, lost.number, lost.outcome, lost.estimated) == (0, 1, ORPHANED, True)
    assert lost.usage.input_tokens == tokens_of(len("hello there"))
    assert lost.usage.output_tokens in output
    assert (made.step, made.number, made.outcome, made.estimated) == (0, 2, "complete", False)
    stored, _ = await pair.end_of(turn.id)
    assert stored.usage == lost.usage.plus(made.usage)
    assert [step.usage for step in stored.steps] == [lost.usage, made.usage]
    assert stored.cost is not None
    assert (Decimal(stored.cost), stored.cost_estimated) == (cost_of([lost, made]), True)
    assert client.frames[-1].data["estimated"] is True


@pytest.mark.requirement("Q3")
@pytest.mark.parametrize("pair", [False, True], ids=["begins-again", "continues"], indirect=True)
async def test_a_turn_that_is_lost_too_often_ends_with_the_usage_of_all_its_calls(pair: Pair) -> None:
    """Text that a later call continues is counted once."""
    turn = await pair.one.send("hello there", model=STORY)
    client = Client()
    outputs = [
        await lose(pair, turn.id, client, pair.two if times % 2 else pair.one, 100 * (times + 1))
        for times in range(MOST_RECOVERIES + 1)
    ]
    stored, (block,) = await pair.end_of(turn.id)
    assert (stored.status, stored.error_code) == ("error", "orphaned")
    steps = stored.steps
    assert [(step.step, step.estimated) for step in steps] == [(0, True)] * (MOST_RECOVERIES + 1)
    made = [step.usage.output_tokens or 0 for step in steps]
    attempts = await attempts_of(pair, turn.id)
    assert [call.usage.output_tokens for call in attempts] == made[:-1]
    if len(client.now.blocks) == 1 and not any(frame.name == "block_reset" for frame in client.frames):
        whole = tokens_of(len(block.text_content or ""))
        assert whole <= sum(made) <= whole + MOST_RECOVERIES, "each estimate is rounded up"
    else:
        assert all(tokens in output for tokens, output in zip(made, outputs, strict=True))
    assert stored.usage.output_tokens == sum(made)
    given = tokens_of(len("hello there"))
    assert [step.usage.input_tokens for step in steps] == [given] * len(steps)
    assert stored.cost is not None
    assert Decimal(stored.cost) == Decimal(given * len(steps)) / 2 + sum(made)
