"""A turn with complete steps whose node is lost. The steps stay, and another node continues after them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.nodes.cluster import Cluster
from tests.nodes.recovery.pairs import (
    LEASE,
    Held,
    Pair,
    check,
    codes_of,
    engines,
    read_until,
    resume,
    taken_over,
)
from tests.turnlog.watching import Client
from turnstream.config import NodeSettings
from turnstream.core.blocks import Block
from turnstream.engine import Engine
from turnstream.store.operations.content import SaveBlock
from turnstream.store.operations.tool_runs import EndToolRun
from turnstream.store.portions import HistoryBeginning
from turnstream.tools import tool
from turnstream.tools.ledger import OUTCOME_UNKNOWN
from turnstream.turns.takeover.restarting import MOST_RECOVERIES

MODEL = "sim/tools:pace=0.01"
SLOW = "sim/tools:pace=0.1"


class Workshop:
    """The tool of all engines. `runs` has the subjects of its calls. The calls wait for `gate`."""

    def __init__(self, *, idempotent: bool = False) -> None:
        self.runs: list[str] = []
        self.gate = asyncio.Event()
        self._changed = asyncio.Event()
        self._idempotent = idempotent

    @property
    def functions(self) -> list[Any]:
        @tool(idempotent=self._idempotent)
        async def mend(thing: str) -> str:
            """Mend a thing."""
            self.runs.append(thing)
            self._changed.set()
            await self.gate.wait()
            return f"{thing} is whole again, after a long time in the workshop of the old town"

        return [mend]

    async def ran(self, count: int) -> None:
        """Wait until `count` calls have begun."""
        while len(self.runs) < count:
            self._changed.clear()
            await self._changed.wait()


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
async def pair(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, workshop: Workshop) -> AsyncIterator[Pair]:
    async with engines(cluster, monkeypatch, options={"tools": workshop.functions}) as pair:
        yield pair


def results_of(blocks: list[Block]) -> list[Any]:
    return [(block.content or {}).get("content") for block in blocks if block.block_type == "tool_result"]


def of_type(client: Client, block_type: str) -> int:
    return sum(block.block_type == block_type for block in client.now.blocks)


def in_second_step(client: Client) -> bool:
    """Return True if the client has seen text after the results of two calls."""
    blocks = client.now.blocks
    return (
        of_type(client, "tool_result") == 2
        and blocks[-1].block_type == "text"
        and bool(blocks[-1].text_content)
    )


def was_recovered(times: int) -> Callable[[Client], bool]:
    return lambda client: codes_of(client).count("recovered") == times


@pytest.mark.requirement("Q3", "Q4")
async def test_a_later_step_begins_again_and_the_steps_before_it_stay(pair: Pair, workshop: Workshop) -> None:
    workshop.gate.set()
    turn = await pair.one.send("go", model=SLOW)
    client = Client()
    await read_until(pair.one, turn.id, client, in_second_step)
    kept = client.now.blocks[:-1]
    async with taken_over(pair, turn.id):
        pass
    late = Client()
    await asyncio.gather(resume(pair, turn.id, client), resume(pair, turn.id, late))
    blocks = await check(pair, turn.id, client, late)
    assert blocks[: len(kept)] == kept
    assert blocks[len(kept)].text_content == f"The tools say: {'; '.join(results_of(kept))}"
    resets = [frame.data["block_index"] for frame in client.frames if frame.name == "block_reset"]
    assert resets in ([len(kept)], []), "only the step that was not complete; nothing if its text was lost"
    assert "recovered" in codes_of(client)
    assert len(workshop.runs) == 2, "no call ran again"
    turn, _ = await pair.end_of(turn.id)
    assert [step.step for step in turn.steps] == [0, *([1] if resets else []), 1], "the lost call counts too"


@pytest.mark.requirement("Q3", "Q4")
@pytest.mark.parametrize("idempotent", [False, True], ids=["once", "idempotent"])
async def test_a_call_that_ran_when_its_node_was_lost(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, *, idempotent: bool
) -> None:
    workshop = Workshop(idempotent=idempotent)
    async with engines(cluster, monkeypatch, options={"tools": workshop.functions}) as pair:
        turn = await pair.one.send("go", model=MODEL)
        client = Client()
        await read_until(pair.one, turn.id, client, lambda client: of_type(client, "tool_use") == 2)
        await workshop.ran(2)
        async with taken_over(pair, turn.id):
            pass
        if idempotent:
            await workshop.ran(4)
            workshop.gate.set()
        await resume(pair, turn.id, client)
        blocks = await check(pair, turn.id, client)
        if idempotent:
            assert OUTCOME_UNKNOWN.text not in results_of(blocks)
        else:
            assert len(workshop.runs) == 2, "no call ran again"
            assert results_of(blocks) == [OUTCOME_UNKNOWN.text] * 2
            assert OUTCOME_UNKNOWN.text in (blocks[-1].text_content or ""), "the model is told"


@pytest.mark.requirement("Q3", "Q4")
async def test_a_result_in_the_ledger_is_used(pair: Pair, workshop: Workshop) -> None:
    """The calls have run, and their results are in the ledger, but the owner did not store the blocks."""
    held = pair.stores[0].before = Held(
        lambda call: isinstance(call, SaveBlock) and call.row.block.block_type == "tool_result"
    )
    ended = asyncio.Event()

    async def note(call: Any) -> None:
        if isinstance(call, EndToolRun) and len(pair.stores[0].times_of(EndToolRun)) == 2:
            ended.set()

    pair.stores[0].after = note
    workshop.gate.set()
    turn = await pair.one.send("go", model=MODEL)
    await held.began.wait()
    await ended.wait()
    client = Client()
    async with taken_over(pair, turn.id):
        pass
    held.go.set()
    await resume(pair, turn.id, client)
    blocks = await check(pair, turn.id, client)
    assert len(workshop.runs) == 2
    assert all("whole again" in result for result in results_of(blocks))


@pytest.mark.requirement("Q3")
async def test_a_turn_between_two_steps_continues_without_a_reset(pair: Pair, workshop: Workshop) -> None:
    workshop.gate.set()
    held = pair.stores[0].after_read = Held(
        lambda query: isinstance(query, HistoryBeginning) and len(workshop.runs) == 2
    )
    turn = await pair.one.send("go", model=MODEL)
    client = Client()
    await read_until(pair.one, turn.id, client, lambda client: of_type(client, "tool_result") == 2)
    await held.began.wait()
    async with taken_over(pair, turn.id):
        pass
    held.go.set()
    await resume(pair, turn.id, client)
    await check(pair, turn.id, client)
    assert not [frame for frame in client.frames if frame.name == "block_reset"]
    assert codes_of(client) == ["recovered"]
    assert len(workshop.runs) == 2


@pytest.mark.requirement("Q3")
async def test_a_node_without_the_tools_ends_the_turn_with_an_error_of_its_own(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, workshop: Workshop
) -> None:
    async with engines(cluster, monkeypatch, options={"tools": workshop.functions}, other={}) as pair:
        turn = await pair.one.send("go", model=MODEL)
        client = Client()
        await read_until(pair.one, turn.id, client, lambda client: of_type(client, "tool_use") == 2)
        await workshop.ran(2)
        async with taken_over(pair, turn.id):
            pass
        await resume(pair, turn.id, client)
        blocks = await check(pair, turn.id, client, status="error")
        stored, _ = await pair.end_of(turn.id)
        assert stored.error_code == "tools_missing"
        assert [block.block_type for block in blocks] == [
            "text",
            "tool_use",
            "tool_use",
            *["tool_result"] * 2,
        ]


@pytest.mark.requirement("Q3")
async def test_a_turn_that_ends_its_nodes_before_their_notices_is_not_continued_for_ever(
    cluster: Cluster, pair: Pair, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnstream.turns.takeover.restarting.MOST_TAKEOVERS", 3)
    workshop.gate.set()
    turn = await pair.one.send("go", model="sim/tools:pace=0.2")
    client = Client()
    await read_until(pair.one, turn.id, client, in_second_step)
    async with AsyncExitStack() as stack:
        for number in range(1, 5):
            engine = await stack.enter_async_context(
                Engine(cluster.url, nodes=NodeSettings(lease=LEASE), tools=workshop.functions)
            )
            async with taken_over(pair, turn.id, by=engine):
                pass
            if number < 4:
                await read_until(engine, turn.id, client, was_recovered(number))
                lost = "DELETE FROM turnstream_annotations WHERE turn_id = %s RETURNING 1"
                await cluster.rows(lost, turn.id)
        await resume(pair, turn.id, client)
        stored, _ = await pair.end_of(turn.id)
        assert (stored.status, stored.error_code) == ("error", "orphaned")
        assert len(stored.fences) == 4


@pytest.mark.requirement("Q3")
async def test_a_turn_is_recovered_twice_at_most(cluster: Cluster, pair: Pair, workshop: Workshop) -> None:
    workshop.gate.set()
    turn = await pair.one.send("go", model="sim/tools:pace=0.2")
    client = Client()
    await read_until(pair.one, turn.id, client, in_second_step)
    kept = client.now.blocks[:-1]
    async with AsyncExitStack() as stack:
        for number in range(1, MOST_RECOVERIES + 2):
            engine = await stack.enter_async_context(
                Engine(cluster.url, nodes=NodeSettings(lease=LEASE), tools=workshop.functions)
            )
            async with taken_over(pair, turn.id, by=engine):
                pass
            if number <= MOST_RECOVERIES:
                await read_until(engine, turn.id, client, was_recovered(number))
        await resume(pair, turn.id, client)
        blocks = await check(pair, turn.id, client, status="error")
        stored, _ = await pair.end_of(turn.id)
        assert stored.error_code == "orphaned"
        assert blocks[: len(kept)] == kept
        assert len(workshop.runs) == 2
