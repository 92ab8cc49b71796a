"""Tools in a stream of the library: run by the stream, or returned to the caller. They stop when the stream
is left."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

import turnstream as ts
from tests.llm.conftest import llm_at
from tests.providers.conftest import Exchange, RawServer
from turnstream.core.turn_events import TurnEvent

pytestmark = pytest.mark.requirement("F1")
DEADLINE = 10.0


def llm(model: str = "sim/tools:pace=0") -> ts.LLM:
    return ts.LLM(model, settings=ts.Settings())


async def test_calls_of_one_step_run_at_once_and_the_stream_goes_on() -> None:
    both = asyncio.Barrier(2)

    async def look(what: str) -> str:
        """Look something up.

        Args:
            what: For what.
        """
        async with asyncio.timeout(DEADLINE):
            await both.wait()  # two calls have to be here at the same time
        return f"seen {what}"

    message = await llm().collect("go", tools=[look])
    assert message.text.endswith("The tools say: seen example 1; seen example 2")
    assert len(message.steps) == 2


async def test_a_function_that_blocks_runs_beside_the_event_loop() -> None:
    here = threading.get_ident()
    threads: list[int] = []

    def look(what: str) -> dict[str, str]:
        threads.append(threading.get_ident())
        return {"seen": what}

    message = await llm().collect("go", tools=[look])
    assert '{"seen":"example 1"}' in message.text
    assert here not in threads


async def test_progress_and_errors_of_tools_are_seen() -> None:
    @ts.tool(name="find")
    async def look(what: str, context: ts.ToolContext) -> str:
        context.progress(f"looking for {what}, asked by {context.metadata['who']}")
        await asyncio.sleep(0)
        raise ts.ToolError("it is gone")

    events: list[TurnEvent] = []
    async with llm().stream("go", tools=[look], metadata={"who": "me"}) as stream:
        async for event in stream:
            events.append(event)  # noqa: PERF401
        message = await stream.final_message()
    told = {event.text for event in events if isinstance(event, ts.ToolProgress)}
    assert told == {"looking for example 1, asked by me", "looking for example 2, asked by me"}
    assert message.text.endswith("it is gone; it is gone")
    results = [block.content or {} for block in message.blocks if block.block_type == "tool_result"]
    assert [result["is_error"] for result in results] == [True, True]


@pytest.mark.parametrize("by_hand", ["run_tools", "definition"])
async def test_calls_may_be_handed_back_and_answered_in_the_next_call(by_hand: str) -> None:
    def look(what: str) -> str:
        raise AssertionError("not to be run")

    definition = {
        "name": "look",
        "input_schema": {
            "type": "object",
            "properties": {"what": {"type": "string"}},
            "required": ["what"],
        },
    }
    model = llm()
    asked = {"role": "user", "content": "go"}
    if by_hand == "run_tools":
        message = await model.collect(messages=[asked], tools=[look], run_tools=False)
    else:
        message = await model.collect(messages=[asked], tools=[definition])
    assert message.stop_reason == "tool_use"
    assert message.complete
    assert [(call.name, call.arguments) for call in message.tool_calls] == [
        ("look", {"what": "example 1"}),
        ("look", {"what": "example 2"}),
    ]
    answers = [call.result(f"{number}!") for number, call in enumerate(message.tool_calls)]
    last = await model.collect(messages=[asked, message, *answers], tools=[definition])
    assert last.text == "The tools say: 0!; 1!"
    by_mapping = [
        {"role": "tool", "tool_call_id": call.id, "content": "mapped"} for call in message.tool_calls
    ]
    last = await model.collect(messages=[asked, message, *by_mapping], tools=[definition])
    assert last.text == "The tools say: mapped; mapped"


async def test_leaving_the_block_stops_a_tool() -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def look(what: str) -> str:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            stopped.set()
        return what

    async with asyncio.timeout(DEADLINE):
        async with llm().stream("go", tools=[look]) as stream:
            reading = asyncio.create_task(stream.final_message())
            await begun.wait()
            assert not stopped.is_set()
        assert stopped.is_set()
        with pytest.raises(ts.StreamClosed) as raised:
            await reading
    partial = raised.value.partial
    assert isinstance(partial, ts.ModelMessage)
    assert len(partial.tool_calls) == 2, "two calls have no result"
    assert (await llm("sim/echo:pace=0").collect("go on", messages=[partial])).text == "go on"


async def test_rounds_are_limited() -> None:
    def look(what: str) -> str:
        return what

    definition = ts.LLM(
        "sim/agent:pace=0", settings=ts.Settings(), tool_limits=ts.ToolLimits(rounds=1, soft_rounds=1)
    )
    message = await definition.collect("go", tools=[look])
    assert len(message.steps) == 2
    assert message.stop_reason == "end_turn"


async def test_two_tools_of_one_name_are_refused() -> None:
    def look(what: str) -> str:
        return what

    with pytest.raises(ts.ConfigurationError, match="two tools are called look"):
        llm().stream("go", tools=[look, look])
    with pytest.raises(ts.ConfigurationError, match="two tools are called look"):
        llm().stream("go", tools=[look, {"name": "look"}])
    with pytest.raises(ts.ConfigurationError, match="needs a name"):
        llm().stream("go", tools=[{}])


SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def events(*deltas: dict[str, object], finish: str) -> bytes:
    """Return a whole answer of chat.completions with these deltas."""
    chunks = [{"id": "c", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    last = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    return (
        b"".join(b"data: %b\n\n" % json.dumps(item).encode() for item in (*chunks, last))
        + b"data: [DONE]\n\n"
    )


@pytest.mark.fault(15)
async def test_a_nameless_call_is_answered_and_stays_in_the_next_request(raw_server: RawServer) -> None:
    fragment = {"index": 0, "id": "call_1", "function": {"arguments": '{"what":"x"}'}}
    nameless = events({"tool_calls": [fragment]}, finish="tool_calls")
    answers = [nameless, events({"content": "Sorry."}, finish="stop")]

    async def answer(exchange: Exchange) -> None:
        await exchange.send(SSE, answers.pop(0))
        exchange.writer.close()

    def look(what: str) -> str:
        raise AssertionError("not to be run")

    raw_server.answer = answer
    message = await llm_at(raw_server.url, "openai-chat", "any").collect("go", tools=[look])
    assert message.text == "Sorry."
    _, again = (json.loads(exchange.body)["messages"] for exchange in raw_server.exchanges)
    assert again[1]["tool_calls"] == [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "unnamed_tool", "arguments": '{"what":"x"}'},
        }
    ]
    assert again[2]["tool_call_id"] == "call_1"
    assert "named no tool" in again[2]["content"]
    assert "look" in again[2]["content"]


@pytest.mark.fault(15)
async def test_a_model_that_never_names_its_calls_is_never_sent_one_request_twice(
    raw_server: RawServer,
) -> None:
    async def answer(exchange: Exchange) -> None:
        fragment = {"index": 0, "function": {"arguments": "{}"}}
        await exchange.send(SSE, events({"tool_calls": [fragment]}, finish="tool_calls"))
        exchange.writer.close()

    def look(what: str) -> str:
        raise AssertionError("not to be run")

    raw_server.answer = answer
    message = await llm_at(raw_server.url, "openai-chat", "any").collect("go", tools=[look])
    assert message.stop_reason == "max_rounds"
    bodies = [exchange.body for exchange in raw_server.exchanges]
    assert len(set(bodies)) == len(bodies)


@pytest.mark.fault(16)
async def test_a_call_that_is_said_in_two_fields_runs_once(raw_server: RawServer) -> None:
    function = {"name": "look", "arguments": '{"what":"x"}'}
    twice = {"function_call": function, "tool_calls": [{"index": 0, "id": "a", "function": function}]}
    answers = [events(twice, finish="tool_calls"), events({"content": "Done."}, finish="stop")]

    async def answer(exchange: Exchange) -> None:
        await exchange.send(SSE, answers.pop(0))
        exchange.writer.close()

    ran: list[str] = []

    def look(what: str) -> str:
        ran.append(what)
        return "seen"

    raw_server.answer = answer
    message = await llm_at(raw_server.url, "openai-chat", "any").collect("go", tools=[look])
    assert (message.text, ran) == ("Done.", ["x"])


@pytest.mark.fault(20)
async def test_thinking_of_thinking_blocks_goes_back_with_the_result(raw_server: RawServer) -> None:
    """LiteLLM's form of Anthropic's thinking: the signature is in no other field."""
    thinking = [{"type": "thinking", "thinking": "Let me.", "signature": None}]
    signature = [{"type": "thinking", "thinking": "", "signature": "SIG"}]
    function = {"name": "look", "arguments": '{"what":"x"}'}
    first = events(
        {"reasoning_content": "Let me.", "thinking_blocks": thinking, "index": 0},
        {"thinking_blocks": signature, "provider_specific_fields": {"thinking_blocks": signature}},
        {"tool_calls": [{"index": 0, "id": "a", "function": function}]},
        finish="tool_calls",
    )
    answers = [first, events({"content": "Done."}, finish="stop")]

    async def answer(exchange: Exchange) -> None:
        await exchange.send(SSE, answers.pop(0))
        exchange.writer.close()

    def look(what: str) -> str:
        return "seen"

    raw_server.answer = answer
    message = await llm_at(raw_server.url, "openai-chat", "any").collect("go", tools=[look])
    assert (message.thinking, message.text) == ("Let me.", "Done.")
    _, again = (json.loads(exchange.body)["messages"] for exchange in raw_server.exchanges)
    assert again[1]["thinking_blocks"] == [{"type": "thinking", "thinking": "Let me.", "signature": "SIG"}]
    assert again[2]["tool_call_id"] == "a"


@pytest.mark.requirement("I3")
async def test_calls_are_known_as_soon_as_a_model_answers() -> None:
    def clock() -> str:
        """Return the time."""
        return "noon"

    seen: list[list[tuple[str, bool, int | None]]] = []
    stream = ts.LLM("sim/tools:pace=0").stream("What is the time?", tools=[clock])
    stream.watch_calls(
        lambda calls: seen.append([(call.outcome, call.estimated, call.usage.input_tokens) for call in calls])
    )
    async with stream:
        message = await stream.final_message()
    first, second = (attempt.usage.input_tokens for attempt in message.attempts)
    assert [[call[:2] for call in calls] for calls in seen] == [
        [("", True)],
        [("complete", False), ("", True)],
    ]
    assert seen[1][0][2] == first
    assert second is not None
    assert (seen[1][1][2] or 0) > (seen[0][0][2] or 0)
