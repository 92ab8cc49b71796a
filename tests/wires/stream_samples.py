"""The start, a whole tool call and the end of a stream, on each wire."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from turnstream.wires.shared.event_stream import frame_line


class Sample(NamedTuple):
    """Frames of one wire. `text` opens the message and has the text "Half an ans". `call` is a whole call of
    `f`."""

    text: bytes
    call: bytes
    end: bytes
    done: bytes


def frame(event: dict[str, Any]) -> bytes:
    name = b"event: %b\n" % event["type"].encode() if "type" in event else b""
    return name + b"data: " + json.dumps(event).encode() + b"\n\n"


def frames(*events: dict[str, Any]) -> bytes:
    return b"".join(map(frame, events))


def chat(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def gemini(*parts: dict[str, Any], **candidate: Any) -> dict[str, Any]:
    content = {"content": {"parts": list(parts), "role": "model"}} if parts else {}
    return {"candidates": [{**content, **candidate, "index": 0}], "responseId": "r1", "modelVersion": "m"}


def responses(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", **fields}


_RESPONSE = {"id": "r1", "object": "response", "model": "m", "output": []}
_MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
_CALL = {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "f", "arguments": ""}
_WHOLE_CALL = {**_CALL, "arguments": "{}", "status": "completed"}
_PART = {"type": "output_text", "text": "", "annotations": []}
_USE = {"type": "tool_use", "id": "t", "name": "f", "input": {}}

SAMPLES: dict[str, Sample] = {
    "openai-chat": Sample(
        frame(chat({"role": "assistant", "content": "Half an ans"})),
        frame(
            chat(
                {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a": 1}'}}]}
            )
        ),
        frame(chat({}, "stop")),
        b"data: [DONE]\n\n",
    ),
    "anthropic": Sample(
        frames(
            {
                "type": "message_start",
                "message": {"id": "m1", "role": "assistant", "model": "m", "content": []},
            },
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": "Half an ans"},
            },
        ),
        frames(
            {"type": "content_block_start", "index": 1, "content_block": _USE},
            {
                "type": "content_block_delta",
                "index": 1,
                "delta": {"type": "input_json_delta", "partial_json": "{}"},
            },
            {"type": "content_block_stop", "index": 1},
        ),
        frames({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, {"type": "message_stop"}),
        b"",
    ),
    "openai-responses": Sample(
        frames(
            responses("created", response={**_RESPONSE, "status": "in_progress"}),
            responses("output_item.added", output_index=0, item=_MESSAGE),
            responses("content_part.added", output_index=0, item_id="msg_1", content_index=0, part=_PART),
            responses(
                "output_text.delta", output_index=0, item_id="msg_1", content_index=0, delta="Half an ans"
            ),
        ),
        frames(
            responses("output_item.added", output_index=1, item=_CALL),
            responses("function_call_arguments.delta", output_index=1, item_id="fc_1", delta="{}"),
            responses("output_item.done", output_index=1, item=_WHOLE_CALL),
        ),
        frame(responses("completed", response={**_RESPONSE, "status": "completed"})),
        b"",
    ),
    "gemini": Sample(
        frame(gemini({"text": "Half an ans"})),
        frame(gemini({"functionCall": {"name": "f", "args": {"a": 1}}})),
        frame(gemini(finishReason="STOP")),
        b"",
    ),
}


def lines(*values: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def bedrock(*events: dict[str, Any]) -> bytes:
    return b"".join(frame_line(json.dumps(event).encode()) for event in events)


USAGE = {"usage": {"inputTokens": 5, "outputTokens": 6, "totalTokens": 11}}
RESPONSE = {"id": "r1", "object": "response", "model": "m", "output": []}

ENDS: dict[str, Callable[[str], bytes]] = {
    "anthropic": lambda raw: frames(
        {"type": "message_delta", "delta": {"stop_reason": raw}}, {"type": "message_stop"}
    ),
    "openai-chat": lambda raw: frame(chat({}, raw)) + b"data: [DONE]\n\n",
    "openai-responses": lambda raw: frame(
        responses(
            "incomplete",
            response={**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": raw}},
        )
    ),
    "gemini": lambda raw: frame(gemini(finishReason=raw, finishMessage="because of this")),
    "bedrock": lambda raw: bedrock({"messageStop": {"stopReason": raw}}, {"metadata": USAGE}),
    "ollama": lambda raw: lines({"model": "m", "message": {"content": ""}, "done": True, "done_reason": raw}),
}
SAID: dict[str, bytes] = {
    **{wire: sample.text for wire, sample in SAMPLES.items()},
    "bedrock": bedrock(
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Half an ans"}}},
    ),
    "ollama": lines(
        {"model": "m", "message": {"role": "assistant", "content": "Half an ans"}, "done": False}
    ),
}
