"""Attempts of a turn's model calls: their costs, and the events about them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.turns.failing import QUICK, world_of
from tests.turns.tools.scripted import ScriptedProvider, answer, says
from tests.turns.world import SECONDS, logged
from turnstream.config import ModelSettings
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    MessageStart,
    Metadata,
)
from turnstream.core.usage import Usage
from turnstream.errors import NotFound, ProviderError, ProviderFailed, RateLimited
from turnstream.providers.circuit import CircuitPolicy
from turnstream.providers.decisions import RetryPolicy
from turnstream.providers.routing import Routing
from turnstream.store.base import Operation
from turnstream.store.operations.content import SaveAnnotations
from turnstream.store.queries import GetTurn
from turnstream.turns.commands import TurnRequest
from turnstream.wires.base import ModelRequest


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
    """The account is not that of the next call, which has text to continue."""
    provider = ScriptedProvider([MessageStart("m"), *says("word " * 200)[:2]], answer(says("The end.")))
    async with world_of(tmp_path, {"a": provider}) as world:
        capable = world.catalog.capabilities_of("anthropic/claude-sonnet-4-5")
        world.catalog.capabilities_of = lambda _name: capable  # type: ignore[method-assign]
        state = await world.ended((await world.ask("go", model="sim/a")).assistant_turn.id)
        assert len(provider.asked[1].messages) > len(provider.asked[0].messages), "it was gone on with"
        assert [attempt.usage.input_tokens for attempt in state.attempts] == [1, 10]


@pytest.mark.requirement("J1")
async def test_an_attempt_is_told_with_its_own_failure(tmp_path: Path) -> None:
    """The account is that of the call that was made, not of the error that ends the turn."""
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
        world.commands._models.routing = Routing(world.catalog, {"fast": fast})
        state = await world.ended((await world.ask("Hi", model="fast")).assistant_turn.id)
        assert (state.turn.model, state.turn.asked_model) == ("scripted/b", "fast")
        following = await world.ask("And?", chat_id=state.turn.chat_id, prev_turn_id=state.turn.id)
        assert (following.assistant_turn.model, following.assistant_turn.asked_model) == ("sim/a", "fast")
        await world.ended(following.assistant_turn.id)


class RefusingProvider(ScriptedProvider):
    """Fails each call with the next error of its list. After the last one, it says Hi."""

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
