"""Turns whose model calls fail: what is shown, stored, run and paid for, and what a crash or an interrupt makes of it
(requirements J1, J4, G5, D3, D5, I3)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.turns.test_tools import ScriptedProvider, answer, blocks_of, calls, results, says
from tests.turns.world import SECONDS, Feed, World, logged
from turnstream.config import ModelSettings
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    Metadata,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
)
from turnstream.core.turn_events import BlockReset
from turnstream.core.usage import Usage
from turnstream.errors import NotFound, ProviderError, ProviderFailed, RateLimited, StoreError
from turnstream.providers.catalog import Target
from turnstream.providers.circuit import CircuitPolicy
from turnstream.providers.decisions import RetryPolicy
from turnstream.providers.routing import Routing
from turnstream.store.base import Operation
from turnstream.store.journal.queries import Journal
from turnstream.store.operations import SaveAnnotations, TakeBack
from turnstream.store.queries import GetTurn
from turnstream.tools import ToolRunner, tool
from turnstream.tools.base import by_name
from turnstream.turns.commands import TurnRequest
from turnstream.wires.base import ModelRequest

QUICK = RetryPolicy(attempts=3, delay=0.01, max_delay=0.02, budget=10.0, spacing=0.02)


@asynccontextmanager
async def world_of(
    path: Path, providers: dict[str, ScriptedProvider], *functions: Any, retry: RetryPolicy = QUICK
) -> AsyncIterator[World]:
    """A world whose models `sim/NAME` are answered by the provider of that name."""
    async with World(path / "turns.sqlite", tools=ToolRunner(by_name(functions)), retry=retry) as world:
        world.catalog.resolve = lambda name: Target(providers[name.partition("/")[2]], name.partition("/")[2])  # type: ignore[method-assign]
        yield world


def cut(*blocks: list[Any]) -> list[Any]:
    """An answer that breaks off."""
    return answer(*blocks, stop=None)


def thinks(text: str, *, whole: bool = True) -> list[StreamEvent]:
    stop = [ContentBlockStop(0)] if whole else []
    return [ContentBlockStart(0, "thinking"), ThinkingDelta(0, text), *stop]


@pytest.mark.requirement("J4", "G5")
async def test_calls_of_a_failed_attempt_are_discarded_and_run_once_when_they_come_again(
    tmp_path: Path,
) -> None:
    ran: list[str] = []

    def look(place: str) -> str:
        """Look somewhere."""
        ran.append(place)
        return f"seen {place}"

    provider = ScriptedProvider(
        cut(thinks("hm"), calls(1, "look", '{"place": "there"}'), calls(2, "look", '{"pla')[:2]),
        answer(says("Now."), calls(1, "look", '{"place": "here"}', identity="again"), stop="tool_use"),
        answer(says("Done.")),
    )
    async with world_of(tmp_path, {"a": provider}, look) as world:
        turn_id = (await world.ask("go", model="sim/a")).assistant_turn.id
        client = await world.watched(turn_id)
        blocks = await blocks_of(world, turn_id)
        state = await world.ended(turn_id)
        assert state.turn.status == "complete"
        assert ran == ["here"]
        assert [(b.sequence, b.block_type) for b in blocks] == [
            (0, "text"),
            (1, "tool_use"),
            (2, "tool_result"),
            (3, "text"),
        ]
        assert results(blocks) == [("again", "seen here", False)]
        assert client.now.blocks == blocks
        assert client.frames[-1].data["total_blocks"] == 4
        names = [frame.name for frame in client.frames]
        assert names.count("block_reset") == 1
        assert names.index("notice") < names.index("block_reset")
        assert [attempt.outcome for attempt in state.attempts] == [
            "stream_incomplete",
            "complete",
            "complete",
        ]
        assert [(attempt.step, attempt.number) for attempt in state.attempts] == [(0, 1), (0, 2), (1, 1)]


@pytest.mark.requirement("G5")
async def test_a_step_whose_tool_was_started_is_not_restarted(tmp_path: Path) -> None:
    ran: list[str] = []
    has_run = asyncio.Event()

    @tool(idempotent=True)
    async def look(place: str) -> str:
        """Look somewhere."""
        ran.append(place)
        has_run.set()
        return "seen"

    async def late() -> StreamEvent:
        await has_run.wait()
        return TextDelta(2, "And")

    provider = ScriptedProvider(
        cut(calls(1, "look", '{"place": "there"}'), [ContentBlockStart(2, "text"), late]),
        answer(says("Never.")),
    )
    async with world_of(tmp_path, {"a": provider}, look) as world:
        turn_id = (await world.ask("go", model="sim/a")).assistant_turn.id
        state = await world.ended(turn_id)
        assert (state.turn.status, state.turn.error_code) == ("error", "stream_incomplete")
        assert ran == ["there"]
        assert len(provider.asked) == 1
        assert [row.block.block_type for row in state.blocks] == ["tool_use", "text", "tool_result"]


@pytest.mark.requirement("J1", "I3")
async def test_what_failed_attempts_used_is_paid_for(tmp_path: Path) -> None:
    measured = [MessageStart("m"), Metadata(Usage(30, 4)), *says("Once upon")[:2]]
    unmeasured = [MessageStart("m"), *says("Once more upon a time")[:2]]
    first = ScriptedProvider(measured, unmeasured, unmeasured)
    second = ScriptedProvider(answer(says("The end.")))
    async with world_of(tmp_path, {"a": first, "b": second}) as world:
        started = await world.ask("Tell me a story", model="sim/a", fallbacks=("sim/b",))
        state = await world.ended(started.assistant_turn.id)
        assert state.turn.status == "complete"
        assert [(a.model, a.outcome, a.estimated) for a in state.attempts] == [
            ("scripted/a", "stream_incomplete", False),
            ("scripted/a", "stream_incomplete", True),
            ("scripted/a", "stream_incomplete", True),
            ("scripted/b", "complete", False),
        ]
        counts = [attempt.usage.output_tokens for attempt in state.attempts]
        assert counts == [4, 6, 6, 5], "as it was told, or 21 bytes by 4"
        assert state.turn.usage.output_tokens == sum(counts)
        assert state.turn.cost_estimated
        assert [(step.step, step.usage.output_tokens) for step in state.turn.steps] == [
            (0, n) for n in counts
        ]
        assert state.turn.asked_model == "sim/a"
        nothing = await world.ask("And then?", chat_id=state.turn.chat_id, prev_turn_id=state.turn.id)
        assert (nothing.assistant_turn.model, nothing.assistant_turn.fallbacks) == ("sim/a", ("sim/b",))


@pytest.mark.requirement("I3", "J4")
async def test_an_attempt_is_estimated_by_its_own_request(tmp_path: Path) -> None:
    """Not by that of the next one, which has words to go on with."""
    provider = ScriptedProvider([MessageStart("m"), *says("word " * 200)[:2]], answer(says("The end.")))
    async with world_of(tmp_path, {"a": provider}) as world:
        capable = world.catalog.capabilities_of("anthropic/claude-sonnet-4-5")
        world.catalog.capabilities_of = lambda _name: capable  # type: ignore[method-assign]
        state = await world.ended((await world.ask("go", model="sim/a")).assistant_turn.id)
        assert len(provider.asked[1].messages) > len(provider.asked[0].messages), "it was gone on with"
        assert [attempt.usage.input_tokens for attempt in state.attempts] == [1, 10]


@pytest.mark.requirement("J1")
async def test_an_attempt_is_told_with_its_own_failure(tmp_path: Path) -> None:
    """Not with the one that the turn ends for: that of the call that was made."""
    providers = {"a": ScriptedProvider([MessageStart("m")]), "b": ScriptedProvider()}
    async with world_of(tmp_path, providers, retry=RetryPolicy(attempts=1)) as world:
        circuits = world.planner.circuits

        async def leave_alone(operation: Operation[Any]) -> None:
            if isinstance(operation, SaveAnnotations):
                for _ in range(circuits.policy.failures):
                    circuits.failed("scripted/b")

        world.store.before = leave_alone
        started = await world.ask("go", model="sim/a", fallbacks=("sim/b",))
        state = await world.ended(started.assistant_turn.id)
        assert state.turn.error_code == "stream_incomplete"
        assert [attempt.outcome for attempt in state.attempts] == ["stream_incomplete", "circuit_open"]


@pytest.mark.requirement("A4", "J4")
async def test_an_interrupt_while_an_attempt_is_waited_for_keeps_what_was_shown(tmp_path: Path) -> None:
    slow = RetryPolicy(delay=60.0, max_delay=60.0, budget=600.0)
    provider = ScriptedProvider([MessageStart("m"), *says("Once upon")[:2]])
    async with world_of(tmp_path, {"a": provider}, retry=slow) as world:
        turn_id = (await world.ask("go", model="sim/a")).assistant_turn.id
        executor = world.executor(turn_id)
        await logged(
            executor, lambda log: log.head >= 5
        )  # turn_start, step_start, block_start, delta, notice
        async with asyncio.timeout(SECONDS):
            state = await world.commands.interrupt("local", turn_id)
        assert state.turn.status == "cancelled"
        assert [(row.block.text_content, row.block.partial) for row in state.blocks] == [("Once upon", True)]
        assert [attempt.outcome for attempt in state.attempts] == ["stream_incomplete"]


@pytest.mark.requirement("D5", "J4")
async def test_a_crash_after_blocks_were_taken_back_keeps_only_what_replaced_them(tmp_path: Path) -> None:
    stays = asyncio.Event()

    async def never() -> StreamEvent:
        await stays.wait()
        return TextDelta(1, "never")

    provider = ScriptedProvider(
        cut(thinks("a thought that is taken back"), says("Old text, a long one", 1)[:2]),
        [MessageStart("m"), ContentBlockStart(0, "text"), TextDelta(0, "New"), never],
    )
    async with world_of(tmp_path, {"a": provider}) as world:
        await world.journal.write()  # from now on it writes what is new
        turn_id = (await world.ask("go", model="sim/a")).assistant_turn.id
        executor = world.executor(turn_id)
        old = [segment for segment in [executor.journal_segment()] if segment is not None]
        await logged(executor, lambda log: log.open_block is not None and log.open_block.sequence == 1)
        stale = executor.journal_segment()
        assert stale is not None
        await logged(executor, lambda log: bool(log.resets) and log.open_block is not None)
        await logged(executor, lambda log: log.open_block is not None and log.open_block.length == 3)
        world.journal._unwritten.extend([*old, stale])  # gathered before, and written only now
        await world.journal.write()
        segments = await world.store.read(Journal(turn_id=turn_id))
        assert [(segment.sequence, segment.text) for segment in segments] == [(0, "New")]
        early = await world.watch(turn_id)
        assert early is not None
        await world.crash()
    async with World(tmp_path / "turns.sqlite") as again:
        state = await again.state(turn_id)
        assert (state.turn.status, state.turn.error_code) == ("error", "orphaned")
        assert [(row.block.sequence, row.block.text_content) for row in state.blocks] == [(0, "New")]
        assert state.turn.resets
        client = await again.watched(turn_id)
        assert client.now.blocks == [row.block for row in state.blocks]


@pytest.mark.requirement("D3")
async def test_where_blocks_cannot_be_taken_back_the_turn_ends_with_them(tmp_path: Path) -> None:
    provider = ScriptedProvider(cut(thinks("hm"), says("Old", 1)), answer(says("New")))

    async def refuse(operation: Operation[Any]) -> None:
        if isinstance(operation, TakeBack):
            raise StoreError("no room")

    async with world_of(tmp_path, {"a": provider}) as world:
        world.store.before = refuse
        turn_id = (await world.ask("go", model="sim/a")).assistant_turn.id
        client = await world.watched(turn_id)
        state = await world.ended(turn_id)
        assert state.turn.error_code == "database_error"
        assert [row.block.text_content for row in state.blocks] == ["hm", "Old"]
        assert client.now.blocks == [row.block for row in state.blocks]


@pytest.mark.requirement("D3", "J4")
async def test_blocks_are_taken_back_once_where_the_answer_of_storage_is_lost(tmp_path: Path) -> None:
    provider = ScriptedProvider(cut(thinks("hm"), thinks("hm")), answer(says("New")))
    lost: list[TakeBack] = []

    async def lose(operation: Operation[Any]) -> None:
        if isinstance(operation, TakeBack) and not lost:
            lost.append(operation)
            raise StoreError("nobody heard whether it was written")

    async with world_of(tmp_path, {"a": provider}) as world:
        world.store.after = lose
        turn_id = (await world.ask("go", model="sim/a")).assistant_turn.id
        executor = world.executor(turn_id)
        client = await world.watched(turn_id)
        state = await world.ended(turn_id)
        assert lost
        assert len(state.turn.resets) == 1
        assert executor.blocks_completed == 1
        assert client.now.blocks == [row.block for row in state.blocks]


async def test_what_nobody_was_shown_is_taken_back_without_a_word(tmp_path: Path) -> None:
    """And the block that stays open is journalled on: after a crash nothing of it is missing."""
    feed = Feed()
    async with World(tmp_path / "turns.sqlite") as world:
        executor = await world.start_foreign(feed.events())
        await feed.say(ContentBlockStart(0, "text"), TextDelta(0, "One "), ContentBlockStart(1, "text"))
        await world.journal.write()
        await feed.say(TextDelta(0, "two "))
        await world.journal.write()
        await feed.say(BlockReset(1), TextDelta(0, "three"), ContentBlockStart(2, "text"))
        await world.journal.write()
        assert executor.log.resets == ()
        segments = await world.store.read(Journal(turn_id=executor.turn.id))
        assert "".join(segment.text for segment in segments) == "One two three"
        await feed.say(ContentBlockStop(0), TextDelta(2, "and"), ContentBlockStop(2))
        assert [row.block.sequence for row in await world.stored(executor.turn.id)] == [0, 1]
        feed.end()
        await world.ended(executor.turn.id)


@pytest.mark.requirement("J1")
async def test_nothing_is_retried_for_a_turn_that_was_not_made(tmp_path: Path) -> None:
    provider = ScriptedProvider([MessageStart("m")])
    async with world_of(tmp_path, {"a": provider}) as world:
        chat = await world.chat()

        async def gone(operation: Operation[Any]) -> None:
            if type(operation).__name__ == "StartTurns":
                raise NotFound("no such chat")

        world.store.before = gone
        with pytest.raises(NotFound):
            await world.ask("go", model="sim/a", chat_id=chat)
        world.store.before = None
        await world.registry.drain(SECONDS)
        assert world.registry.active_count == 0
        assert len(provider.asked) <= 1


async def test_a_turn_that_runs_has_no_attempts_yet(tmp_path: Path) -> None:
    provider = ScriptedProvider(answer(says("Hi")))
    provider.hold = asyncio.Event()
    async with world_of(tmp_path, {"a": provider}) as world:
        turn_id = (await world.ask("go", model="sim/a")).assistant_turn.id
        await logged(world.executor(turn_id), lambda log: log.stored_seq > 0)
        assert (await world.state(turn_id)).attempts == ()
        provider.hold.set()
        assert len((await world.ended(turn_id)).attempts) == 1
        assert (await world.store.read(GetTurn(owner=None, turn_id=turn_id))).resets == ()


@pytest.mark.requirement("J1")
async def test_a_name_of_the_settings_own_stands_for_its_model_in_every_turn(tmp_path: Path) -> None:
    first, second = ScriptedProvider([MessageStart("m")]), ScriptedProvider(answer(says("Hi")))
    async with world_of(tmp_path, {"a": first, "b": second}) as world:
        fast = ModelSettings(model="sim/a", fallbacks=("sim/b",))
        world.commands._routing = Routing(world.catalog, {"fast": fast})
        state = await world.ended((await world.ask("Hi", model="fast")).assistant_turn.id)
        assert (state.turn.model, state.turn.asked_model) == ("scripted/b", "fast")
        following = await world.ask("And?", chat_id=state.turn.chat_id, prev_turn_id=state.turn.id)
        assert (following.assistant_turn.model, following.assistant_turn.asked_model) == ("sim/a", "fast")
        await world.ended(following.assistant_turn.id)


class RefusingProvider(ScriptedProvider):
    """Fails each call with the next of its errors; once there is none, it says Hi."""

    def __init__(self, *errors: ProviderError) -> None:
        super().__init__(answer(says("Hi")))
        self.errors = list(errors)
        self.called = 0

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncIterator[AsyncIterator[Any]]:
        self.called += 1
        if self.errors:
            raise self.errors.pop(0)
        async with super().stream(request) as batches:
            yield batches


@pytest.mark.fault(38)
async def test_operators_read_the_cause_of_each_failure_and_clients_its_code(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limited = RateLimited("limited", provider_status=429, detail="slow down\nERROR all is lost")
    limited.request_id = "req_1"
    unpaid = RateLimited(
        "unpaid", code="insufficient_quota", retryable=False, provider_status=402, detail="pay\r\nfirst"
    )
    unpaid.request_id = "req_2"
    async with world_of(tmp_path, {"a": RefusingProvider(limited, unpaid)}) as world:
        with caplog.at_level(logging.WARNING, "turnstream"):
            state = await world.ended((await world.ask("Hi", model="sim/a")).assistant_turn.id)
    assert (state.turn.status, state.turn.error_code) == ("error", "insufficient_quota")
    assert "quota" in (state.turn.error_message or "")
    assert "pay" not in (state.turn.error_message or "")
    lines = [record.getMessage() for record in caplog.records]
    assert all("\n" not in line and "\r" not in line for line in lines)
    (recovered,) = (line for line in lines if "req_1" in line)
    assert (
        "scripted/a: rate_limit_error, HTTP 429, request req_1: limited: slow down ERROR all is lost"
        in recovered
    )
    assert "attempt_failed" in recovered
    (failed,) = (line for line in lines if "req_2" in line)
    assert "insufficient_quota, HTTP 402, request req_2: unpaid: pay first" in failed


@pytest.mark.fault(38)
async def test_one_owners_failing_turns_close_no_model_to_others(tmp_path: Path) -> None:
    provider = RefusingProvider(*(ProviderFailed("poisoned", provider_status=500) for _ in range(7)))
    policy = QUICK._replace(attempts=1)
    async with world_of(tmp_path, {"a": provider}, retry=policy) as world:
        world.planner.circuits.policy = CircuitPolicy(failures=5, seconds=1000.0)

        async def turn_of(owner: str) -> str | None:
            request = TurnRequest(
                chat_id=await world.chat(owner), blocks=(Block(0, "text", "Hi"),), model="sim/a"
            )
            turn = (await world.commands.send(owner, request)).assistant_turn
            async with asyncio.timeout(SECONDS):
                await world.commands.ended(turn.id)
            return (await world.commands.state(owner, turn.id)).turn.error_code

        codes = [await turn_of("ann") for _ in range(9)]
        assert codes == ["api_error"] * 5 + ["circuit_open"] * 4
        assert provider.called == 5
        provider.errors.clear()
        assert await turn_of("bob") is None, "another owner's turn is answered"
        assert await turn_of("ann") == "circuit_open"
