"""Each fault ends the same way over a socket and in the process: with the right error, in bounded time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Literal, get_args

import msgspec
import pytest

from turnstream.config import Timeouts
from turnstream.core.answers import fold_answer
from turnstream.core.blocks import Block, Message
from turnstream.core.stream_events import MessageStop, RedactContent, StreamError, StreamEvent, TextDelta
from turnstream.errors import InvalidModelRequest, ProviderError
from turnstream.providers.base import Provider
from turnstream.providers.endpoints import Endpoint
from turnstream.providers.http import HttpProvider
from turnstream.simulator import texts
from turnstream.simulator.fault_names import FAULTS as FAULTS_TOLD
from turnstream.simulator.fault_names import REDACTING_WIRES, FaultName
from turnstream.simulator.in_process import SimulatedProvider
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest
from turnstream.wires.shared.endings import WITHDRAWN

PATIENT = Timeouts(connect=10, first_token=10, idle=10, total=20)
SHORT = {
    "first_token_timeout": PATIENT.model_copy(update={"first_token": 0.2}),
    "idle_timeout": PATIENT.model_copy(update={"idle": 0.2}),
}
"""Only the clock that is tested is short: a busy machine makes no other ring."""
DEADLINE = 10.0

FAULTS = [
    # model's options, code, retryable, the partial answer that is kept
    ("fault=error-before,status=400", "invalid_request_error", False, False),
    ("fault=error-before,status=401", "authentication_error", False, False),
    ("fault=error-before,status=403", "permission_error", False, False),
    ("fault=error-before,status=404", "not_found_error", False, False),
    ("fault=error-before,status=429,retry-after=3", "rate_limit_error", True, False),
    ("fault=error-before,status=500", "api_error", True, False),
    ("fault=error-before,status=503", "overloaded_error", True, False),
    ("fault=cut", "stream_incomplete", True, True),
    ("fault=cut,after=0", "stream_incomplete", True, False),
    ("fault=reset", "connection_error", True, False),
    ("fault=reset,after=12", "stream_incomplete", True, True),
    ("fault=hang", "first_token_timeout", True, False),
    ("fault=slow-first,seconds=30", "first_token_timeout", True, False),
    ("fault=silence,after=0", "first_token_timeout", True, False),
    ("fault=silence", "idle_timeout", True, True),
    ("fault=silence,ping=0.02", "idle_timeout", True, True),
    ("fault=silence,after=0,ping=0.02", "first_token_timeout", True, False),
    ("fault=malformed,after=12", "malformed_event", True, True),
    ("fault=huge-event,after=12", "event_too_large", False, True),
    ("fault=no-end", "stream_incomplete", True, True),
    ("fault=no-stream", "invalid_request_error", False, False),
    ("fault=error-before,status=400,code=context_length_exceeded", "context_length_exceeded", False, False),
    ("unheard-of=1", "invalid_request_error", False, False),
]


@pytest.fixture(params=["socket", "in process"])
async def provide(request, simulator_server) -> AsyncIterator[Callable[..., Provider]]:
    """Builds providers of the simulator, of both kinds."""
    made: list[Provider] = []

    def make(wire: str, timeouts: Timeouts = PATIENT) -> Provider:
        if request.param == "socket":
            made.append(HttpProvider("sim", WIRES[wire], Endpoint(simulator_server.url), timeouts))
        else:
            made.append(SimulatedProvider("sim", WIRES[wire], timeouts))
        return made[-1]

    yield make
    for provider in made:
        await provider.close()


async def outcome(
    provider: Provider, request: ModelRequest
) -> tuple[list[StreamEvent], ProviderError | None]:
    events: list[StreamEvent] = []
    try:
        async with asyncio.timeout(DEADLINE), provider.stream(request) as batches:
            async for batch in batches:
                assert batch
                events.extend(batch)
    except ProviderError as error:
        return events, error
    return events, None


def text_of(events: list[StreamEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.requirement("D6", "J2", "J5")
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("options", "code", "retryable", "partial"), FAULTS, ids=[fault[0] for fault in FAULTS]
)
async def test_a_fault_ends_with_its_code(provide, ask, wire, options, code, retryable, partial):
    provider = provide(wire, SHORT.get(code, PATIENT))
    began = time.monotonic()
    events, error = await outcome(provider, ask(f"demo:pace=0.001,{options}"))
    assert error is not None
    assert (error.code, error.retryable) == (code, retryable)
    assert bool(text_of(events)) is partial
    assert time.monotonic() - began < 3
    whole, nothing = await outcome(provide(wire), ask("demo:pace=0"))
    assert nothing is None
    assert text_of(whole).startswith(text_of(events))


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("code", ["overloaded_error", "rate_limit_error", "api_error"])
async def test_an_error_in_mid_stream_is_the_last_event(provide, ask, wire, code):
    events, error = await outcome(provide(wire), ask(f"demo:pace=0,fault=error,after=12,code={code}"))
    assert error is None
    assert isinstance(events[-1], StreamError)
    assert events[-1].code == code
    assert text_of(events)
    assert not any(isinstance(event, MessageStop) for event in events)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("after", [3, 12])
async def test_a_model_that_stops_in_mid_answer(provide, ask, wire, after):
    events, error = await outcome(provide(wire), ask(f"demo:pace=0,fault=max-tokens,after={after}"))
    assert error is None
    (stop,) = (event for event in events if isinstance(event, MessageStop))
    assert stop.stop_reason == "max_tokens"
    assert bool(text_of(events)) is (after > 3)


@pytest.mark.requirement("K1")
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("fault", ["redact", "redact-input"])
async def test_a_provider_that_redacts(
    provide, ask, simulator_server, wire, fault: Literal["redact", "redact-input"]
):
    asked = ask(f"demo:pace=0,fault={fault},after=9")
    if wire not in REDACTING_WIRES[fault]:
        http = HttpProvider("sim", WIRES[wire], Endpoint(simulator_server.url), PATIENT)
        _, refused = await outcome(http, asked)
        await http.close()
        assert isinstance(refused, InvalidModelRequest)
        return
    events, error = await outcome(provide(wire), asked)
    assert error is None
    redactions = [(event.side, event.replacement) for event in events if isinstance(event, RedactContent)]
    given = texts.WITHDRAWN if wire == "bedrock" else WITHDRAWN
    assert redactions == [("assistant" if fault == "redact" else "user", given)]
    assert [block.text_content for block in fold_answer(events).blocks] == [given]
    whole, error = await outcome(provide(wire), msgspec.structs.replace(asked, stream=False))
    assert error is None
    assert [block.text_content for block in fold_answer(whole).blocks] == [given]


@pytest.mark.parametrize("fault", ["redact", "redact-input"])
async def test_a_redaction_needs_no_choice_of_a_wire(ask, fault):
    events, error = await outcome(SimulatedProvider(), ask(f"demo:pace=0,fault={fault}"))
    assert error is None
    assert any(isinstance(event, RedactContent) for event in events)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_huge_event_within_the_limit_is_no_error(provide, ask, wire):
    events, error = await outcome(provide(wire), ask("demo:pace=0,fault=huge-event,size=1000000"))
    whole, _ = await outcome(provide(wire), ask("demo:pace=0"))
    assert error is None
    assert text_of(events) == text_of(whole)


def test_each_fault_is_tried_here():
    tried = {options.partition(",")[0].removeprefix("fault=") for options, *_ in FAULTS}
    own = {"error", "max-tokens", "redact", "redact-input"}
    assert set(FAULTS_TOLD) - tried == own, "these have tests of their own"
    assert set(FAULTS_TOLD) == set(get_args(FaultName))


@pytest.mark.parametrize("wire", WIRES)
async def test_retry_after_is_told(provide, ask, wire):
    _, error = await outcome(provide(wire), ask("demo:fault=error-before,status=429,retry-after=7"))
    assert error is not None
    assert error.retry_after == 7


@pytest.mark.parametrize("wire", WIRES)
async def test_a_slow_first_token_is_waited_for(provide, ask, wire):
    events, error = await outcome(provide(wire), ask("echo:pace=0,fault=slow-first,seconds=0.05"))
    assert error is None
    assert any(isinstance(event, MessageStop) for event in events)


@pytest.mark.parametrize("wire", WIRES)
async def test_the_total_clock(provide, ask, wire):
    _, error = await outcome(provide(wire, Timeouts(idle=1, total=0.3)), ask("story:events=1000,pace=0.01"))
    assert error is not None
    assert error.code == "total_timeout"


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("chunk", [1, 5])
async def test_chunks_inside_code_points(provide, ask, wire, chunk):
    provider = provide(wire)
    whole, _ = await outcome(provider, ask("thinking:pace=0"))
    cut, error = await outcome(provider, ask(f"thinking:pace=0,chunk={chunk}"))
    assert error is None
    assert text_of(cut) == text_of(whole)


@pytest.mark.parametrize("wire", WIRES)
async def test_both_ways_bring_the_same_events(simulator_server, ask, wire):
    over_socket = HttpProvider("sim", WIRES[wire], Endpoint(simulator_server.url), PATIENT)
    in_process = SimulatedProvider("sim", WIRES[wire], PATIENT)
    for model in ("demo:pace=0", "thinking:pace=0", "tools:pace=0", "story:events=30,pace=0", "echo:pace=0"):
        one, _ = await outcome(over_socket, ask(model, tools=True))
        two, _ = await outcome(in_process, ask(model, tools=True))
        assert one == two
    await over_socket.close()


async def test_an_unpaced_answer_lets_others_run(ask):
    """However fast the in-process model is, a turn can be interrupted while it answers."""
    turns = 0
    over = False

    async def other() -> None:
        nonlocal turns
        while not over:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    events, _ = await outcome(SimulatedProvider(), ask("story:events=2000,pace=0"))
    over = True
    await task
    assert len(events) > 2000
    assert turns > 50


async def test_a_read_after_the_end_ends(ask):
    async with SimulatedProvider().stream(ask("echo:pace=0")) as batches:
        assert [batch async for batch in batches]
        with pytest.raises(StopAsyncIteration):
            await anext(batches)


@pytest.mark.parametrize("wire", WIRES)
async def test_faults_that_pass(provide, ask, wire):
    of_two = provide(wire)
    codes = [
        await outcome(of_two, ask("echo:pace=0,fault=error-before,status=503,times=2")) for _ in range(3)
    ]
    assert [error and error.code for _, error in codes] == ["overloaded_error", "overloaded_error", None]
    lasting = ask("echo:pace=0,fault=cut,after=0,lasting=0.2")
    async with asyncio.timeout(DEADLINE):
        assert (await outcome(of_two, lasting))[1] is not None
        while (await outcome(of_two, lasting))[1] is not None:
            pass


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("prefill", ["continue", "refuse", "repeat"])
async def test_a_request_that_ends_with_the_models_own_words(provide, ask, wire, prefill):
    whole = text_of((await outcome(provide(wire), ask("demo:pace=0")))[0])
    request = ask(f"demo:pace=0,prefill={prefill}")
    begun = Message("assistant", (Block(0, "text", whole[:101]),))
    request = msgspec.structs.replace(request, messages=(*request.messages, begun))
    events, error = await outcome(provide(wire), request)
    if prefill == "refuse":
        assert error is not None
        assert error.code == "invalid_request_error"
    else:
        assert error is None
        assert text_of(events) == (whole[101:] if prefill == "continue" else whole)


@pytest.mark.requirement("J3")
@pytest.mark.parametrize("wire", WIRES)
async def test_a_plain_answer_where_streams_are_refused(provide, ask, wire):
    model = "agent:pace=0,fault=no-stream"
    plain = msgspec.structs.replace(ask(model, tools=True), stream=False)
    streamed, error = await outcome(provide(wire), ask("agent:pace=0", tools=True))
    assert error is None
    events, error = await outcome(provide(wire), plain)
    assert error is None
    told, expected = fold_answer(events), fold_answer(streamed)
    assert [block.text_content for block in told.blocks] == [block.text_content for block in expected.blocks]
    assert (told.stop and told.stop.stop_reason, told.usage) == ("tool_use", expected.usage)
