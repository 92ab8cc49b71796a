"""A stream of the library over the simulator in this process: reading it, its end, leaving it."""

from __future__ import annotations

import asyncio
import gc
import itertools
import weakref

import pytest

import turnstream as ts
from turnstream.core.turn_events import TurnEvent

pytestmark = pytest.mark.requirement("F1")

DEADLINE = 10.0


def llm(model: str = "sim/demo:pace=0", **settings: object) -> ts.LLM:
    return ts.LLM(model, settings=ts.Settings.model_validate({"retry": {"attempts": 1}, **settings}))


async def test_text_comes_in_pieces_and_the_message_is_their_sum() -> None:
    async with llm().stream("hello") as stream:
        pieces = [text async for text in stream.text]
        message = await stream.final_message()
    assert len(pieces) > 3
    assert all(pieces)
    assert "".join(pieces) == message.text == await stream.final_text()
    assert message.complete
    assert message.stop_reason == "end_turn"
    assert (message.provider, message.model) == ("sim", "demo:pace=0")
    assert message.id == stream.id
    assert message.usage.output_tokens
    assert message.usage == message.steps[0].usage
    assert message.cost == 0
    assert message.steps[0].message_id


async def test_collect_needs_no_stream() -> None:
    message = await llm("sim/echo:pace=0").collect("say this")
    assert message.text == "say this"
    assert message.output is None


async def test_events_are_typed_and_end_with_the_turns_end() -> None:
    async with llm("sim/agent:pace=0").stream("go") as stream:
        events = [event async for event in stream]
        message = stream.message
    kinds = [type(event) for event in events]
    assert kinds[0] is ts.StepStart
    assert kinds[-1] is ts.TurnComplete
    assert kinds.count(ts.TurnComplete) == 1
    assert _folded(events) == {
        block.sequence: block.text_content for block in message.blocks if block.text_content
    }


def _folded(events: list[TurnEvent]) -> dict[int, str]:
    texts: dict[int, str] = {}
    for event in events:
        match event:
            case ts.BlockDelta(block_index=index, field="text", value=value):
                texts[index] = texts.get(index, "") + value
            case ts.BlockCatchup(block_index=index, accumulated_text=str(text)):
                texts[index] = text
            case _:
                pass
    return texts


async def test_several_readers_at_once_each_get_everything() -> None:
    async def text(stream: ts.MessageStream[None]) -> str:
        return "".join([piece async for piece in stream.text])

    async def events(stream: ts.MessageStream[None]) -> dict[int, str]:
        return _folded([event async for event in stream])

    async def blocks(stream: ts.MessageStream[None]) -> tuple[ts.Block, ...]:
        return [blocks async for blocks in stream.blocks][-1]

    async with llm("sim/story:events=2000,pace=0").stream("go") as stream:
        async with asyncio.timeout(DEADLINE):
            first, second, seen, shown, message = await asyncio.gather(
                text(stream), text(stream), events(stream), blocks(stream), stream.final_message()
            )
    assert first == second == message.text
    assert seen == {0: message.text}
    assert shown == message.blocks


async def test_a_slow_reader_of_events_loses_nothing_and_holds_up_nobody() -> None:
    async with llm("sim/story:events=5000,pace=0", stream={"buffer_size": 10}).stream("go") as stream:
        events = aiter(stream)
        first = [await anext(events)]
        async with asyncio.timeout(DEADLINE):
            message = await stream.final_message()
        rest = [event async for event in events]
    assert _folded(first + rest) == {0: message.text}
    assert len(rest) < 100, "what waited for the slow reader was not joined"


async def test_without_readers_the_model_is_not_read_beyond_the_buffer() -> None:
    settings = {"buffer_size": 20}
    async with llm("sim/story:events=5000,pace=0.000001", stream=settings).stream("go") as stream:
        for _ in range(1000):
            await asyncio.sleep(0)
        assert 20 <= stream.metrics.events < 40
        assert not stream.ended
        assert len("".join([text async for text in stream.text])) > 5000


async def test_a_reader_that_comes_late_gets_what_was_there() -> None:
    async with llm("sim/agent:pace=0", stream={"buffer_size": 5}).stream("go") as stream:
        message = await stream.final_message()
        late = [event async for event in stream]
        assert "".join([text async for text in stream.text]) == message.text
        assert [blocks async for blocks in stream.blocks] == [message.blocks]
    assert type(late[0]) is ts.BlockCatchup
    assert type(late[-1]) is ts.TurnComplete
    assert _folded(late) == {b.sequence: b.text_content for b in message.blocks if b.text_content}
    assert [text async for text in stream.text] == [message.text], "reading goes on after the block too"


async def test_blocks_are_snapshots_that_grow() -> None:
    settings = {"update_interval": 0}
    async with llm("sim/demo:pace=0", stream=settings).stream("go") as stream:
        snapshots = [blocks async for blocks in stream.blocks]
        message = await stream.final_message()
    texts = [blocks[-1].text_content or "" for blocks in snapshots if blocks]
    assert len(texts) > 3
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
    assert all(blocks[-1].partial for blocks in snapshots[:-1] if blocks)
    assert snapshots[-1] == message.blocks
    assert not snapshots[-1][-1].partial


@pytest.mark.requirement("F8")
async def test_streams_have_ids_of_their_own_and_leave_nothing_behind() -> None:
    model = llm()
    ids: set[str] = set()
    streams: list[weakref.ref[ts.MessageStream[None]]] = []
    for _ in range(3):
        async with model.stream("hello") as stream:
            ids.add(stream.id)
            await stream.final_text()
        streams.append(weakref.ref(stream))
    del stream
    gc.collect()
    assert len(ids) == 3
    assert [reference() for reference in streams] == [None] * 3


@pytest.mark.requirement("F8")
async def test_filters_and_renderers_are_plain_functions() -> None:
    def no_thinking(event: TurnEvent) -> TurnEvent | None:
        return None if isinstance(event, ts.BlockDelta) and event.block_type == "thinking" else event

    def loud(event: TurnEvent) -> TurnEvent | None:
        if isinstance(event, ts.BlockDelta) and isinstance(event.value, str):
            return ts.BlockDelta(event.block_index, event.block_type, event.field, event.value.upper())
        return event

    def as_text(event: TurnEvent) -> str | None:
        return event.value if isinstance(event, ts.BlockDelta) and event.field == "text" else None

    async with llm("sim/agent:pace=0").stream("go") as stream:
        rendered = "".join([text async for text in stream.render(as_text, no_thinking, loud)])
        kept = [event async for event in stream.events(no_thinking)]
        message = await stream.final_message()
    assert rendered == message.text.upper()
    assert message.thinking
    assert not any(isinstance(e, ts.BlockDelta) and e.block_type == "thinking" for e in kept)


@pytest.mark.requirement("J4", "J2")
async def test_an_answer_that_breaks_off_is_an_error_with_what_had_come() -> None:
    async with llm("sim/demo:fault=cut,after=9,pace=0").stream("hello") as stream:
        pieces: list[str] = []
        with pytest.raises(ts.StreamIncomplete) as raised:
            await _read(stream, pieces)
        with pytest.raises(ts.StreamIncomplete):
            await stream.final_message()
        with pytest.raises(ts.StreamIncomplete):
            _ = [event async for event in stream]
    partial = raised.value.partial
    assert isinstance(partial, ts.ModelMessage)
    assert partial.text == "".join(pieces) != ""
    assert not partial.complete
    assert partial.stop_reason is None
    assert partial.blocks[-1].partial
    assert partial.cost_estimated
    assert (partial.usage.output_tokens or 0) > 1
    assert raised.value.retryable
    assert not stream.message.complete


@pytest.mark.requirement("J2")
@pytest.mark.parametrize(
    ("model", "error", "helps"),
    [
        ("sim/demo:fault=error-before,status=429,retry-after=7", ts.RateLimited, True),
        ("sim/demo:fault=error-before,status=401", ts.AuthenticationFailed, False),
        ("sim/demo:fault=error,after=0,code=overloaded_error", ts.Overloaded, True),
        ("sim/nobody", ts.ProviderError, False),
    ],
)
async def test_errors_are_typed_and_tell_whether_a_retry_can_help(
    model: str, error: type[ts.ProviderError], helps: bool
) -> None:
    with pytest.raises(error) as raised:
        await llm(model).collect("hello")
    assert raised.value.retryable is helps
    assert raised.value.code
    assert raised.value.partial is not None


async def test_leaving_the_block_stops_the_call() -> None:
    model = llm("sim/story:events=100000,pace=0.001")
    async with asyncio.timeout(DEADLINE):
        async with model.stream("go") as stream:
            async for _text in stream.text:
                break
    assert stream.ended
    assert isinstance(stream.error, ts.StreamClosed)
    assert stream.message.text
    assert not stream.message.complete
    with pytest.raises(ts.StreamClosed) as raised:
        await stream.final_message()
    assert raised.value.partial is not None
    assert raised.value.partial.text == stream.message.text


async def test_a_reader_that_is_cancelled_harms_nobody_else() -> None:
    async with llm("sim/story:events=200,pace=0.001").stream("go") as stream:
        reader = asyncio.create_task(anext(stream.text))
        text = aiter(stream.text)
        first = await anext(text)
        other = asyncio.create_task(stream.final_text())
        waiting = asyncio.create_task(_drain(stream))
        await asyncio.sleep(0)
        waiting.cancel()
        reader.cancel()
        async with asyncio.timeout(DEADLINE):
            whole = await other
        rest = [piece async for piece in text]
    assert first + "".join(rest) == whole
    await asyncio.gather(waiting, reader, return_exceptions=True)


async def _read(stream: ts.MessageStream[None], pieces: list[str]) -> None:
    async for text in stream.text:
        pieces.append(text)  # noqa: PERF401 - kept as far as it comes


async def _drain(stream: ts.MessageStream[None]) -> None:
    async for _ in stream.text:
        pass


async def test_the_caller_that_is_cancelled_while_the_model_is_called_leaves_nothing() -> None:
    entering = asyncio.create_task(llm("sim/demo:fault=hang").collect("go"))
    for _ in range(5):
        await asyncio.sleep(0)
    entering.cancel()
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(asyncio.CancelledError):
            await entering


async def test_a_stream_is_used_once() -> None:
    stream = llm().stream("hello")
    with pytest.raises(RuntimeError, match="not begun"):
        await stream.final_message()
    async with stream:
        await stream.final_text()
    with pytest.raises(RuntimeError, match="begun already"):
        await stream.__aenter__()


async def test_a_stream_that_was_not_begun_cannot_be_read() -> None:
    stream = llm().stream("x")
    for read in (
        lambda: stream.text,
        lambda: stream.blocks,
        stream.events,
        stream.updates,
        lambda: aiter(stream),
    ):
        with pytest.raises(RuntimeError, match="not begun"):
            read()
    with pytest.raises(RuntimeError, match="or `with llm"):
        next(llm().stream_sync("x").text)


async def test_an_option_that_nobody_knows_is_refused_and_one_that_is_none_left_out() -> None:
    with pytest.raises(TypeError, match=r"temperature.*params"):
        llm().stream("x", temperature=1)  # type: ignore[call-overload]
    nothing = dict.fromkeys(ts.CallOptions.__annotations__)
    message = await llm("sim/echo:pace=0").collect("say this", **nothing)  # type: ignore[call-overload]
    assert message.text == "say this"
    with pytest.raises(ts.InvalidRequest, match=r"fallbacks=\['sim/echo'\]"):
        ts.LLM("sim/demo", fallbacks="sim/echo")
    for prompt in (5, b"bytes"):
        with pytest.raises(ts.InvalidRequest, match="the prompt is a"):
            llm().stream(prompt)  # type: ignore[call-overload]


async def test_what_was_said_before_goes_with_the_call() -> None:
    model = llm("sim/echo:pace=0")
    first = await model.collect("one")
    seen = await model.collect("two", messages=[{"role": "user", "content": "one"}, first])
    assert seen.text == "two"
    assert seen.usage.input_tokens == 3, "one, its answer, two"
    by_hand = await model.collect(messages=[ts.Message("user", (ts.Block(0, "text", "three"),))])
    assert by_hand.text == "three"
    rows = [{"role": "user", "content": [{"block_type": "text", "text_content": "one"}]}, first]
    assert (await model.collect("two", messages=rows)).usage == seen.usage
    kept = first.as_message()
    assert (kept.role, kept.blocks) == ("assistant", first.blocks)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "the prompt is missing"),
        ([{"role": "system", "content": "x"}], "instructions go to system="),
        ([{"role": "user", "content": 3}], "content has to be"),
        ([{"role": "user", "content": [{"type": "sound"}]}], "type is 'sound'"),
        ([{"role": "user", "content": [{"type": "image"}]}], "needs one of url, data"),
        ([{"role": "user", "content": " "}], "no content to send"),
        ([{"role": "user", "content": [{"block_type": "text", "text_content": 3}]}], "cannot be read"),
        ([3], r"messages\[0\] is a int"),
    ],
)
def test_what_cannot_be_sent_is_refused_at_once(messages: list[object], words: str) -> None:
    with pytest.raises(ts.InvalidRequest, match=words):
        llm().stream(messages=messages)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", ["gpt", "nobody/gpt", "/x"])
def test_a_model_that_cannot_be_is_refused_when_the_llm_is_made(model: str) -> None:
    with pytest.raises(ts.InvalidRequest):
        ts.LLM(model)
    with pytest.raises(ts.InvalidRequest):
        ts.LLM("sim/demo", fallbacks=[model])


async def test_a_missing_key_is_told_when_it_is_needed() -> None:
    model = ts.LLM("anthropic/claude-sonnet-5-5")
    with pytest.raises(ts.AuthenticationFailed, match="ANTHROPIC_API_KEY"):
        await model.collect("hello")


@pytest.mark.requirement("R1")
async def test_the_missing_keys_of_a_model_and_its_fallbacks_are_told_together() -> None:
    model = ts.LLM("anthropic/claude-sonnet-5-5", fallbacks=["openai/gpt-5", "openai/gpt-5-mini"])
    with pytest.raises(ts.AuthenticationFailed) as raised:
        await model.collect("hello")
    assert str(raised.value) == (
        "anthropic needs a key: set ANTHROPIC_API_KEY; openai needs a key: set OPENAI_API_KEY and start again"
    )


@pytest.mark.requirement("F4")
async def test_an_answer_may_be_shown_once_it_is_whole() -> None:
    async with llm("sim/story:events=500,pace=0", stream={"enabled": False}).stream("go") as stream:
        pieces = [text async for text in stream.text]
        message = await stream.final_message()
    assert pieces == [message.text]


@pytest.mark.requirement("F4")
async def test_calls_of_tools_may_be_shown_once_they_are_whole() -> None:
    def look(what: str) -> str:
        return what

    settings = {"tool_streaming": False}
    async with llm("sim/tools:pace=0", stream=settings).stream("go", tools=[look]) as stream:
        events = [event async for event in stream]
    deltas = [e for e in events if isinstance(e, ts.BlockDelta) and e.field == "partial_json"]
    assert [delta.value for delta in deltas] == ['{"what":"example 1"}', '{"what":"example 2"}']
    assert sum(isinstance(event, ts.BlockStart) for event in events) == sum(
        isinstance(event, ts.BlockStop) for event in events
    )
