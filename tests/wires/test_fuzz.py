"""No input hangs a decoder, exhausts memory or raises outside our exception tree (requirements E4, E6)."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections import deque
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnstream.core import stream_events as say
from turnstream.core.accumulator import Accumulator
from turnstream.errors import TurnstreamError
from turnstream.wires import WIRES
from turnstream.wires.base import Wire
from turnstream.wires.recording import decode_pieces, frame_line
from turnstream.wires.shared.think_tags import ThinkTagDecoder

EXAMPLES = 120
every_wire = pytest.mark.parametrize("wire", WIRES.values(), ids=lambda wire: wire.name)

FIELDS = [
    "type",
    "index",
    "message",
    "content_block",
    "delta",
    "content",
    "text",
    "thinking",
    "partial_json",
    "signature",
    "usage",
    "stop_reason",
    "error",
    "id",
    "model",
    "choices",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "finish_reason",
    "refusal",
    "annotations",
    "citations",
    "images",
    "message",
    "role",
    "done",
    "done_reason",
    "response",
    "prompt_eval_count",
    "eval_count",
    "total_duration",
    "created_at",
    "input",
    "data",
    "url",
    "index",
    "status",
    "code",
    "candidates",
    "parts",
    "thought",
    "thoughtSignature",
    "functionCall",
    "functionResponse",
    "args",
    "partialArgs",
    "jsonPath",
    "stringValue",
    "willContinue",
    "inlineData",
    "executableCode",
    "codeExecutionResult",
    "groundingMetadata",
    "groundingChunks",
    "groundingSupports",
    "finishReason",
    "promptFeedback",
    "blockReason",
    "usageMetadata",
    "promptTokenCount",
]
WORDS = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "ping",
    "error",
    "text",
    "text_delta",
    "thinking",
    "thinking_delta",
    "tool_use",
    "input_json_delta",
    "signature_delta",
    "redacted_thinking",
    "stop",
    "length",
    "end_turn",
    "tool_calls",
    "null",
    "assistant",
    "{}",
    "[]",
    "{",
    "<think>",
    "</think>",
    "😀",
    "STOP",
    "$.a[0].b",
    "$['a']",
    "image/png",
]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-2, 5)
    | st.sampled_from([-(2**70), 2**70, 1e308])
    | st.sampled_from([*WORDS, "\ud83d", "\ude00"])
    | st.text(max_size=6)
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=12,
)
anthropic_events = st.fixed_dictionaries(
    {"type": st.sampled_from(WORDS[:8])},
    optional={
        "index": scalars,
        "message": json_values,
        "content_block": st.fixed_dictionaries(
            {"type": st.sampled_from(WORDS)}, optional={"text": json_values}
        ),
        "delta": st.fixed_dictionaries(
            {"type": st.sampled_from(WORDS)},
            optional={"text": scalars, "partial_json": scalars, "thinking": scalars, "stop_reason": scalars},
        ),
        "usage": json_values,
        "error": json_values,
    },
)
calls = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "index": scalars,
            "id": scalars,
            "function": st.fixed_dictionaries({}, optional={"name": scalars, "arguments": json_values}),
        },
    )
    | json_values,
    max_size=3,
)
said = st.fixed_dictionaries(
    {},
    optional={
        "content": scalars | json_values,
        "thinking": scalars,
        "reasoning": scalars,
        "reasoning_details": json_values,
        "tool_calls": calls | json_values,
        "images": json_values,
        "extra": json_values,
    },
)
chat_events = st.fixed_dictionaries(
    {},
    optional={
        "id": scalars,
        "choices": st.lists(
            st.fixed_dictionaries(
                {"delta": said | json_values}, optional={"index": scalars, "finish_reason": scalars}
            ),
            max_size=2,
        ),
        "usage": json_values,
        "error": json_values,
    },
)
ollama_events = st.fixed_dictionaries(
    {"message": said | json_values},
    optional={
        "model": scalars,
        "done": scalars,
        "done_reason": scalars,
        "error": json_values,
        "eval_count": scalars,
        "total_duration": scalars,
        "response": scalars,
    },
)
parts = st.fixed_dictionaries(
    {"type": st.sampled_from(["output_text", "refusal", "summary_text", "reasoning_text", "other"])},
    optional={"text": scalars, "refusal": scalars, "annotations": json_values},
)
items = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                "message",
                "reasoning",
                "function_call",
                "custom_tool_call",
                "mcp_call",
                "code_interpreter_call",
                "file_search_call",
                "image_generation_call",
                "web_search_call",
            ]
        )
    },
    optional={
        "id": scalars | json_values,
        "call_id": scalars | json_values,
        "name": scalars | json_values,
        "arguments": scalars | json_values,
        "input": scalars,
        "code": scalars,
        "content": st.lists(parts, max_size=2) | json_values,
        "summary": st.lists(parts, max_size=2) | json_values,
        "output": json_values,
        "outputs": json_values,
        "results": json_values,
        "queries": json_values,
        "result": scalars,
        "error": json_values,
        "encrypted_content": scalars,
        "status": scalars | json_values,
    },
)
responses_events = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                "response.output_text.delta",
                "response.function_call_arguments.delta",
                "response.reasoning_summary_text.delta",
                "response.created",
                "response.output_item.added",
                "response.output_item.done",
                "response.content_part.added",
                "response.content_part.done",
                "response.reasoning_summary_part.added",
                "response.output_text.done",
                "response.function_call_arguments.done",
                "response.refusal.delta",
                "response.output_text.annotation.added",
                "response.completed",
                "response.incomplete",
                "response.failed",
                "response.surprise",
                "error",
            ]
        )
    },
    optional={
        "delta": scalars,
        "text": scalars,
        "arguments": scalars,
        "output_index": scalars,
        "content_index": scalars,
        "sequence_number": scalars,
        "item": items | json_values,
        "part": parts | json_values,
        "annotation": json_values,
        "response": json_values
        | st.fixed_dictionaries(
            {"output": st.lists(items, max_size=2)},
            optional={
                "id": scalars,
                "model": scalars,
                "status": scalars | json_values,
                "usage": json_values,
                "error": json_values,
            },
        ),
        "error": json_values,
        "message": scalars,
    },
)
arguments = st.fixed_dictionaries(
    {
        "jsonPath": st.sampled_from(["$.a", "$.a.b", "$.a[0]", "$.a[1].b", "$.c[0]", "$['d e'].f", "$", "a"])
        | scalars
    },
    optional={"stringValue": scalars, "numberValue": scalars, "nullValue": scalars, "willContinue": scalars},
)
gemini_parts = st.fixed_dictionaries(
    {},
    optional={
        "text": scalars,
        "thought": scalars,
        "thoughtSignature": scalars,
        "functionCall": st.fixed_dictionaries(
            {},
            optional={
                "name": scalars,
                "id": scalars,
                "args": json_values,
                "partialArgs": st.lists(arguments, max_size=4) | json_values,
                "willContinue": scalars,
            },
        ),
        "inlineData": json_values,
        "executableCode": json_values,
        "codeExecutionResult": json_values,
    },
)
gemini_events = st.fixed_dictionaries(
    {},
    optional={
        "candidates": st.lists(
            st.fixed_dictionaries(
                {
                    "content": st.fixed_dictionaries({"parts": st.lists(gemini_parts, max_size=3)})
                    | json_values
                },
                optional={"index": scalars, "finishReason": scalars, "groundingMetadata": json_values},
            ),
            max_size=2,
        ),
        "usageMetadata": json_values,
        "promptFeedback": json_values,
        "responseId": scalars,
        "error": json_values,
    },
)
bedrock_deltas = st.fixed_dictionaries(
    {},
    optional={
        "text": scalars,
        "toolUse": st.fixed_dictionaries({}, optional={"input": json_values}),
        "reasoningContent": st.fixed_dictionaries(
            {}, optional={"text": scalars, "signature": scalars, "redactedContent": scalars}
        ),
        "citation": json_values,
        "toolResult": json_values,
        "image": st.fixed_dictionaries(
            {}, optional={"source": st.fixed_dictionaries({}, optional={"bytes": scalars})}
        ),
        "extra": json_values,
    },
)
bedrock_starts = st.fixed_dictionaries({}, optional={"toolUse": said, "toolResult": said, "image": said})
bedrock_events = st.one_of(
    st.builds(
        lambda index, delta: {"contentBlockDelta": {"contentBlockIndex": index, "delta": delta}},
        scalars,
        bedrock_deltas | json_values,
    ),
    st.builds(
        lambda index, start: {"contentBlockStart": {"contentBlockIndex": index, "start": start}},
        scalars,
        bedrock_starts | json_values,
    ),
    st.builds(lambda index: {"contentBlockStop": {"contentBlockIndex": index}}, scalars),
    st.builds(
        lambda name, value: {name: value},
        st.sampled_from(
            [
                "messageStart",
                "messageStop",
                "metadata",
                "throttlingException",
                "modelStreamErrorException",
                "new",
            ]
        ),
        said | json_values,
    ),
    st.builds(lambda reason: {"messageStop": {"stopReason": reason}}, scalars),
    anthropic_events,
)
EVENTS: dict[str, st.SearchStrategy[Any]] = {
    "openai-responses": responses_events,
    "anthropic": anthropic_events,
    "openai-chat": chat_events,
    "ollama": ollama_events,
    "gemini": gemini_events,
    "bedrock": bedrock_events,
}
PATHS = {"bedrock": "/model/m/converse-stream"}
raw_lines = st.sampled_from(
    [
        b"data: [DONE]",
        b"event: error",
        b"event: message_stop",
        b"data:",
        b": ping",
        b"\xff\xfe",
        b"{",
        b"\r",
        b"id: 1",
    ]
) | st.binary(max_size=12)


LOOSE = [
    b'error: {"code": 429, "message": "slow down"}', b'{"error": {"message": "no"}}', b"{", b'  "error": "no"', b"}", b"<html>",
    b"502 Bad Gateway", b"event: error", b"[DONE]", b"keepalive", b'{"detail": "rate limit"}', b'data: {"a": 1}', b"data: {",
    b'{"type": "message", "content": [{"type": "text", "text": "a"}]}', b'{"object": "response", "output": []}', b"",
]  # fmt: skip
"""Lines as gateways write them, with and without a blank line behind them."""


def bodies(wire: Wire) -> st.SearchStrategy[bytes]:
    framed = (EVENTS[wire.name] | json_values).map(lambda value: frame_line(wire, json.dumps(value).encode()))
    raw = (raw_lines | st.sampled_from(LOOSE)).map(lambda line: line + b"\n")
    mark = st.sampled_from([b"", b"", b"", b"\xef\xbb\xbf", b"\n"])
    whole = st.builds(lambda begin, lines: begin + b"".join(lines), mark, st.lists(framed | raw, max_size=8))
    return whole | arrays() if wire.name == "gemini" else whole


def arrays() -> st.SearchStrategy[bytes]:
    """Gemini's other framing: one JSON array, indented or not, with what does not belong into it."""
    elements = st.lists(gemini_events | json_values, max_size=6)
    indented = st.builds(
        lambda value, indent: json.dumps(value, indent=indent).encode(), elements, st.sampled_from([None, 2])
    )
    foreign = st.sampled_from([b"", b"]", b"\n,x\n", b'"', b"}", b"{", b"\n}"])
    return st.builds(lambda before, array, after: before + array + after + array, foreign, indented, foreign)


@every_wire
@pytest.mark.requirement("E4", "E6")
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_any_body_ends_in_our_own_words(wire: Wire, data: st.DataObject) -> None:
    body = data.draw(bodies(wire))
    for on_malformed in ("fail", "skip"):
        fold(wire.decoder(event_limit=400, on_malformed=on_malformed), body, data.draw(st.integers(1, 40)))
    fold(ThinkTagDecoder(wire.decoder()), body, 7)
    whole = decode_pieces(wire, [body])
    json.dumps(whole)
    size = data.draw(st.integers(1, 9))
    assert decode_pieces(wire, [body[at : at + size] for at in range(0, len(body), size)]) == whole


@every_wire
@pytest.mark.requirement("E4", "E6")
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_any_damage_to_a_sound_answer_ends_in_our_own_words(wire: Wire, data: st.DataObject) -> None:
    body = bytearray(sound_body(wire))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(body) - 1))
        length = data.draw(st.integers(0, 30))
        body[start : start + length] = data.draw(st.binary(max_size=8))
        body += b"\n"
    fold(wire.decoder(on_malformed="skip"), bytes(body), 11)
    decode_pieces(wire, [bytes(body)])


@every_wire
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_any_request_and_error_ends_in_our_own_words(wire: Wire, data: st.DataObject) -> None:
    request = st.fixed_dictionaries(
        {
            "model": scalars,
            "messages": st.lists(said | json_values, max_size=3),
            "input": st.lists(items | said | json_values, max_size=3) | scalars,
        },
        optional={"tools": json_values, "system": json_values, "options": json_values, "stop": json_values},
    )
    body = data.draw(
        st.binary(max_size=30) | (json_values | request).map(lambda value: json.dumps(value).encode())
    )
    try:
        wire.encode_request(wire.decode_request(PATHS.get(wire.name, "/"), body))
    except TurnstreamError:
        pass
    error = wire.decode_error(
        data.draw(st.integers(300, 599)), {"retry-after": data.draw(st.text(max_size=4))}, body
    )
    assert isinstance(error, TurnstreamError)
    wire.encode_error(error)


@every_wire
@pytest.mark.requirement("E4", "E6", "O2")
def test_nesting_and_endless_lines_are_refused(wire: Wire) -> None:
    for nested in (b"[" * 200_000, b'{"message":' * 100_000, b'{"choices":[{"delta":{"content":' * 50_000):
        decode_pieces(wire, [frame_line(wire, nested)])
        decode_pieces(wire, [frame_line(wire, nested + b"]" * 200_000)])
    tracemalloc.start()
    try:
        decoder = wire.decoder(event_limit=100_000)
        endless = itertools.chain([endless_event(wire)], itertools.repeat(b"x" * 10_000, 10_000))
        with pytest.raises(TurnstreamError) as refused:
            deque(map(decoder.feed, endless), maxlen=0)
        assert refused.value.code == "event_too_large"
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def endless_event(wire: Wire) -> bytes:
    """The begin of an event that never ends."""
    if wire.name == "bedrock":
        lengths = (100_000_000).to_bytes(4) + bytes(4)
        return lengths + crc32(lengths).to_bytes(4)
    return b"data: "


def fold(decoder: Any, body: bytes, size: int) -> None:
    """Decode and fold as the executor does; anything but our own errors fails the test."""
    accumulator = Accumulator()
    try:
        for at in range(0, len(body), size):
            take(accumulator, decoder.feed(body[at : at + size]))
        take(accumulator, decoder.close())
        accumulator.end()
    except TurnstreamError:
        pass
    accumulator.cut()


def take(accumulator: Accumulator, events: list[Any]) -> None:
    position = 0
    while True:
        position = accumulator.fold(events, position)
        accumulator.take_changes()
        if accumulator.finished is None:
            return
        accumulator.release()


def sound_body(wire: Wire) -> bytes:
    """An answer with thinking, text and a call."""
    encoder = wire.encoder(model="m", message_id="i")
    events = [
        say.MessageStart("i", "m"),
        say.ContentBlockStart(0, "thinking"),
        say.ThinkingDelta(0, "hm 😀"),
        say.ContentBlockStop(0),
        say.ContentBlockStart(1, "text"),
        say.TextDelta(1, "one "),
        say.TextDelta(1, "two"),
        say.ContentBlockStop(1),
        say.ContentBlockStart(2, "tool_use", {"tool_use_id": "t", "tool_name": "f"}),
        say.ToolInputDelta(2, '{"a":[1,2]}'),
        say.ContentBlockStop(2),
        say.MessageStop("tool_use"),
    ]
    return encoder.feed(events) + encoder.close()
