"""The library's handling of calls that may be cut off: a message's calls, values by a tool, foreign
streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

import turnstream as ts
from tests.llm.scripted import Scripted
from turnstream.adapters import from_langgraph, from_openai_agents, from_pydantic_ai
from turnstream.core.answers import fold_answer
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStop,
    StopReason,
    TextDelta,
    ToolInputDelta,
)
from turnstream.core.tool_results import ToolCallName, result_events
from turnstream.core.turn_events import SourceEvent
from turnstream.llm.live_answer import LiveAnswer
from turnstream.llm.message_stream import StreamOptions
from turnstream.llm.model_message import OUTPUT_TOOL, ToolCall
from turnstream.llm.output import OutputFormat
from turnstream.model_loop.sources import ForeignSource, TurnSource
from turnstream.wires import WIRES
from turnstream.wires.recording import decode_pieces

pytestmark = pytest.mark.fault(2)


class Settings(msgspec.Struct):
    volume: int = 11


def called(name: str, arguments: str = "") -> list[Any]:
    written = [ToolInputDelta(0, arguments)] if arguments else []
    start = ContentBlockStart(0, "tool_use", {"tool_use_id": "c1", "tool_name": name})
    return [start, *written, ContentBlockStop(0)]


def streaming(source: TurnSource, output: OutputFormat[Any] | None = None) -> ts.MessageStream[Any]:
    async def make(_stream_id: str, _live: LiveAnswer) -> TurnSource:
        return source

    return ts.MessageStream(make, StreamOptions(), output, output_as_tool=output is not None)


@pytest.mark.parametrize(
    ("reason", "arguments"),
    [("tool_use", {}), ("end_turn", {}), ("max_tokens", None), ("unknown", None), (None, None)],
)
async def test_a_message_hands_out_a_call_without_arguments_only_after_a_clean_end(
    reason: StopReason | None, arguments: dict[str, Any] | None
) -> None:
    async with streaming(Scripted([called("wipe"), [MessageStop(reason)]])) as stream:
        message = await stream.final_message()
    error = None if arguments is not None else "the call was cut off"
    assert message.tool_calls == (ToolCall("c1", "wipe", arguments, "", error),)


async def test_a_call_is_not_finished_while_the_end_is_to_come() -> None:
    source = Scripted([called("wipe"), [MessageStop("tool_use")]], stepwise=True)
    assert source.go is not None
    async with streaming(source) as stream:
        source.go.release()
        async for blocks in stream.blocks:
            if blocks[0].partial:
                assert stream.message.tool_calls[0].arguments is None
                source.go.release()
        assert (await stream.final_message()).tool_calls[0].arguments == {}


@pytest.mark.parametrize(("text", "reason", "value"), [
    ("", "tool_use", Settings()), ("  ", "tool_use", Settings()), ('{"volume": 3}', "max_tokens", Settings(3)),
])  # fmt: skip
async def test_a_value_by_a_tool(text: str, reason: StopReason, value: Settings) -> None:
    source = Scripted([called(OUTPUT_TOOL, text), [MessageStop(reason)]])
    async with streaming(source, OutputFormat(Settings)) as stream:
        assert await stream.final_output() == value


@pytest.mark.parametrize("text", ["", " "])
async def test_no_value_of_defaults_comes_out_of_a_call_that_was_cut(text: str) -> None:
    source = Scripted([called(OUTPUT_TOOL, text), [MessageStop("max_tokens")]])
    async with streaming(source, OutputFormat(Settings)) as stream:
        with pytest.raises(ts.InvalidOutput):
            await stream.final_output()


def test_an_answer_that_is_no_stream_follows_the_same_rule() -> None:
    body = (
        b'{"id":"m","type":"message","role":"assistant","model":"x","content":[{"type":"tool_use","id":"t","name":"wipe",'
        b'"input":{}}],"stop_reason":"max_tokens","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}'
    )
    answer = fold_answer(WIRES["anthropic"].decode_answer(body))
    assert answer.blocks[0].partial
    answer = fold_answer(WIRES["anthropic"].decode_answer(body.replace(b"max_tokens", b"tool_use")))
    assert not answer.blocks[0].partial


@pytest.mark.parametrize(
    ("reason", "value"), [("MAX_TOKENS", None), ("SAFETY", None), ("STOP", {"path": "/tmp/x"})]
)
def test_gemini_closes_no_arguments_in_pieces_that_were_cut(reason: str, value: Any) -> None:
    piece = '{"jsonPath":"$.path","stringValue":"/tmp/x","willContinue":true}'
    call = f'{{"name":"wipe","partialArgs":[{piece}],"willContinue":true}}'
    body = (
        f'data: {{"candidates":[{{"content":{{"parts":[{{"functionCall":{call}}}]}}}}],"responseId":"r"}}\n\n'
        f'data: {{"candidates":[{{"finishReason":"{reason}"}}]}}\n\n'
    )
    (block,) = decode_pieces(WIRES["gemini"], [body.encode()])["blocks"]
    assert block["content"]["input"] == value


# -- foreign streams
# -------------------------------------------------------------------------------------------------


async def test_what_a_source_ran_itself_is_whole_before_the_stream_ends() -> None:
    answered = result_events(1, ToolCallName("c1", "wipe"), "done", is_error=False)

    async def events() -> AsyncIterator[list[SourceEvent]]:
        yield called("wipe")
        yield [*answered, ContentBlockStart(2, "text"), TextDelta(2, "Well.")]
        assert [block.partial for block in stream.message.blocks] == [False, False, True]
        yield [MessageStop("end_turn")]

    stream = streaming(ForeignSource(events()))
    async with stream:
        message = await stream.final_message()
    assert [block.partial for block in message.blocks] == [False, False, False]


async def folded(stream: AsyncIterator[Sequence[SourceEvent]]) -> ts.ModelMessage[Any]:
    async with streaming(ForeignSource(stream)) as read:
        return await read.final_message()


async def given(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


def langgraph_chunk(reason: str) -> Any:
    call = {"type": "tool_call_chunk", "id": "c1", "name": "wipe", "args": "", "index": 0}
    fields = {
        "response_metadata": {"finish_reason": reason},
        "content_blocks": [call],
        "usage_metadata": None,
    }
    chunk = SimpleNamespace(type="AIMessageChunk", id="m", chunk_position="last", **fields)
    return ("messages", (chunk, {}))


def pydantic_events(reason: str) -> list[Any]:
    part = SimpleNamespace(
        part_kind="tool-call", tool_call_id="c1", tool_name="wipe", args="", args_as_json_str=lambda: "{}"
    )
    used = SimpleNamespace(
        input_tokens=1, output_tokens=1, cache_read_tokens=0, cache_write_tokens=0, details={}
    )
    response = SimpleNamespace(model_name="m", finish_reason=reason)
    result = SimpleNamespace(usage=used, run_id="r", response=response)
    return [
        SimpleNamespace(event_kind="part_start", index=0, part=part),
        SimpleNamespace(event_kind="part_end", index=0, part=part),
        SimpleNamespace(event_kind="agent_run_result", result=result),
    ]


@pytest.mark.parametrize(
    ("reason", "cut"), [("length", True), ("stop", False), ("tool_call", False), ("content_filter", True)]
)
async def test_frameworks_pass_on_why_the_last_answer_ended(reason: str, cut: bool) -> None:
    for stream in (
        from_langgraph(given(langgraph_chunk(reason))),
        from_pydantic_ai(given(*pydantic_events(reason))),
    ):
        message = await folded(stream)
        assert [block.partial for block in message.blocks] == [cut]
        assert (message.stop_reason == "end_turn") is not cut


async def test_a_call_of_an_agent_is_decided_by_the_end_of_its_own_response() -> None:
    def said(**event: Any) -> Any:
        data = SimpleNamespace(
            type=event["type"], model_dump_json=lambda **_: msgspec.json.encode(event).decode()
        )
        return SimpleNamespace(type="raw_response_event", data=data)

    call = {"type": "function_call", "id": "fc", "call_id": "c1", "name": "transfer", "arguments": ""}
    text = {"type": "message", "id": "msg", "content": [{"type": "output_text", "text": "Hello."}]}
    first, second = (
        {"id": "r1", "status": "completed", "output": [call]},
        {"id": "r2", "status": "completed", "output": [text]},
    )
    seen: list[list[str]] = []

    async def events() -> AsyncIterator[Any]:
        yield said(type="response.created", response={"id": "r1"})
        yield said(type="response.completed", response=first)
        yield said(type="response.created", response={"id": "r2"})
        yield said(type="response.output_item.added", output_index=0, item={**text, "content": []})
        yield said(type="response.output_text.delta", output_index=0, content_index=0, delta="Hello.")
        seen.append([block.block_type for block in read.message.blocks])
        yield said(type="response.completed", response=second)

    read = streaming(ForeignSource(from_openai_agents(events())))
    async with read:
        message = await read.final_message()
    assert seen == [["tool_use", "text"]]
    assert [block.partial for block in message.blocks] == [False, False]
