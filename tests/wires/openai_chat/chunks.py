"""Streams of chat.completions as vendors write them."""

from __future__ import annotations

import json
from typing import Any, Literal

from hypothesis import strategies as st

from turnstream.core.stream_events import (
    MessageStart,
    MessageStop,
    StreamEvent,
)
from turnstream.errors import ProviderError
from turnstream.wires.openai_chat.wire import WIRE
from turnstream.wires.recording import decode_pieces

DONE = b"data: [DONE]\n\n"
START = MessageStart("c", "m")


def frame(event: Any, name: str | None = None) -> bytes:
    data = event if isinstance(event, bytes) else json.dumps(event).encode()
    return (b"event: " + name.encode() + b"\n" if name else b"") + b"data: " + data + b"\n\n"


def chunk(delta: Any = None, finish: Any = None, *, index: Any = 0, **fields: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": {} if delta is None else delta, "finish_reason": finish}
    return {"id": "c", "model": "m", "choices": [choice], **fields}


def text(value: str) -> dict[str, Any]:
    return chunk({"content": value})


def call(
    index: int | None = 0, identity: Any = None, name: Any = None, arguments: Any = None
) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    position = {} if index is None else {"index": index}
    return {**position, **({} if identity is None else {"id": identity}), "function": function}


def calls(*fragments: dict[str, Any]) -> dict[str, Any]:
    return chunk({"tool_calls": list(fragments)})


def body(*events: Any, done: bool = True) -> bytes:
    frames = [event if isinstance(event, bytes) and b"data:" in event else frame(event) for event in events]
    return b"".join(frames) + (DONE if done else b"")


def decode(*events: Any, on_malformed: Literal["fail", "skip"] = "fail") -> list[StreamEvent]:
    """Return the events of whole messages, without the usual first and last event."""
    decoder = WIRE.decoder(on_malformed=on_malformed)
    decoded = [*decoder.feed(body(*events)), *decoder.close()]
    if decoded and decoded[0] == START:
        decoded.pop(0)
    return decoded


def blocks(*events: Any) -> list[tuple[Any, ...]]:
    """Return the blocks of a message: type and text, or a tool call's name, id and arguments."""
    folded = decode_pieces(WIRE, [body(*events)])
    assert folded["complete"], folded["error"]
    return [
        (content["tool_name"], content["tool_use_id"], content["input_json"])
        if block["block_type"] == "tool_use" and (content := block["content"])
        else (block["block_type"], block["text_content"])
        for block in folded["blocks"]
    ]


FINISH = chunk(finish="stop")
END = MessageStop("end_turn", "stop")


def fold(*events: Any) -> list[dict[str, Any]]:
    folded = decode_pieces(WIRE, [body(*events)])
    assert folded["complete"], folded["error"]
    return folded["blocks"]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 600)
    | st.sampled_from([2**64, -(10**40)])
    | st.floats()
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def loose(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with these fields, of any values."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, json_values))


fragments = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 2) | json_values,
        "id": st.sampled_from(["a", "b", ""]) | json_values,
        "function": st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from(["f", "g"]) | json_values,
                "arguments": st.sampled_from(["{", "}", "{}"]) | json_values,
            },
        )
        | json_values,
    },
)
deltas = st.fixed_dictionaries(
    {},
    optional={
        "content": st.text(max_size=4) | st.lists(loose("type", "text", "summary"), max_size=2) | json_values,
        "reasoning": st.text(max_size=4) | json_values,
        "reasoning_content": json_values,
        "refusal": st.text(max_size=2) | json_values,
        "tool_calls": st.lists(fragments, max_size=3) | json_values,
        "function_call": loose("name", "arguments") | json_values,
        "reasoning_details": st.lists(loose("type", "text", "index", "signature"), max_size=2) | json_values,
        "annotations": json_values,
        "images": json_values,
        "other": json_values,
        "index": st.integers(0, 2) | json_values,
        "thinking": loose("text", "thinking", "summary", "signature") | json_values,
        "thinking_blocks": st.lists(loose("type", "thinking", "signature", "data"), max_size=2) | json_values,
        "signature": json_values,
        "provider_specific_fields": loose("thinking_blocks", "reasoning_content", "n") | json_values,
        "provider_metadata": json_values,
    },
)
choices = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 3) | json_values,
        "delta": deltas | json_values,
        "finish_reason": st.sampled_from(["stop", "length"]) | json_values,
        "message": deltas,
        "text": st.text(max_size=3) | json_values,
        "error": json_values,
        "usage": json_values,
    },
)
chunks = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["c", "d"]) | json_values,
        "choices": st.lists(choices, max_size=2) | json_values,
        "usage": json_values,
        "error": json_values,
        "citations": json_values,
        "x_groq": json_values,
    },
)
frames = st.one_of(
    chunks.map(frame),
    st.binary(max_size=30).map(frame),
    json_values.map(frame),
    st.just(DONE),
    st.sampled_from(
        [frame(text("ab")), frame(text("c")), frame(FINISH), frame({"error": "x"}, "error"), b": c\n\n"]
    ),
)


def outcome(
    pieces: list[bytes], on_malformed: Literal["fail", "skip"]
) -> tuple[list[StreamEvent], str | None]:
    decoder = WIRE.decoder(on_malformed=on_malformed)
    events: list[StreamEvent] = []
    try:
        for piece in pieces:
            events.extend(decoder.feed(piece))
        events.extend(decoder.close())
    except ProviderError as error:
        return events, error.code
    return events, None
