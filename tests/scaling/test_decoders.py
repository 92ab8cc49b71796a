"""Decoding costs in proportion to its input, on every wire, whatever an answer is made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.scaling.measuring import MOST, Work, cost_ratio
from turnstream.core.bounds import DEFAULT_MAX_LENGTH
from turnstream.errors import StreamBroken
from turnstream.llm.message_fold import MessageFold
from turnstream.wires import WIRES
from turnstream.wires.recording import recorded_body

pytestmark = pytest.mark.fault(26)
Event = dict[str, Any]
Shape = Callable[[int], list[Event]]
CITED = {"type": "url_citation", "url_citation": {"url": "u"}}


def chat(**delta: Any) -> Event:
    return {"id": "c", "choices": [{"index": 0, "delta": delta}]}


def chat_call(index: int | None, arguments: str, **fields: Any) -> Event:
    at = {} if index is None else {"index": index}
    function = {"arguments": arguments, **({"name": "f"} if "id" in fields else {})}
    return chat(tool_calls=[{**at, **fields, "function": function}])


def chat_end(reason: str = "stop") -> Event:
    return {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


def response(kind: str, **fields: Any) -> Event:
    return {"type": f"response.{kind}", **fields}


def response_end(output: list[Event] | None = None) -> Event:
    return response("completed", response={"id": "r", "status": "completed", "output": output or []})


def item(n: int, written: str = "", **fields: Any) -> Event:
    return {"type": "function_call", "call_id": f"c{n}", "name": "f", "arguments": written, **fields}


def claude(*events: Event) -> list[Event]:
    start = {"type": "message_start", "message": {"id": "m", "model": "x", "content": []}}
    return [
        start,
        *events,
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ]


def claude_start(index: int, block: Event) -> Event:
    return {"type": "content_block_start", "index": index, "content_block": block}


def claude_delta(index: int, **delta: Any) -> Event:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def converse(index: int, **delta: Any) -> Event:
    return {"contentBlockDelta": {"contentBlockIndex": index, "delta": delta}}


BEDROCK_END: Event = {"messageStop": {"stopReason": "end_turn"}}


def gemini(*parts: Event, **fields: Any) -> Event:
    return {"responseId": "r", "candidates": [{"content": {"parts": list(parts)}, **fields}]}


GEMINI_END = gemini(finishReason="STOP")
GEMINI_CALL = gemini({"functionCall": {"name": "f", "willContinue": True}})


def argument(path: str, more: bool = False, **value: Any) -> Event:
    goes_on = {"willContinue": True} if more else {}
    return gemini(
        {"functionCall": {"partialArgs": [{"jsonPath": path, **value, **goes_on}], "willContinue": True}}
    )


def ollama(**message: Any) -> Event:
    return {"model": "m", "message": {"role": "assistant", "content": "", **message}, "done": False}


OLLAMA_END = {
    "model": "m",
    "message": {"role": "assistant", "content": ""},
    "done": True,
    "done_reason": "stop",
}

SHAPES: dict[str, dict[str, Shape]] = {
    "openai-chat": {
        "text": lambda n: [*(chat(content="word ") for _ in range(n)), chat_end()],
        "calls that are open together": lambda n: [
            *(chat_call(i, "", id=f"i{i}") for i in range(n)), *(chat_call(i, "{}") for i in range(n)), chat_end("tool_calls"),
        ],
        "calls without an index": lambda n: [*(chat_call(None, "{}", id=f"i{i}") for i in range(n)), chat_end("tool_calls")],
        "calls of one id": lambda n: [*(chat_call(i, "{}", id="same") for i in range(n)), chat_end("tool_calls")],
        "a long call": lambda n: [chat_call(0, '{"a":"', id="i"), *(chat_call(0, "x}") for _ in range(n)), chat_end()],
        "text and thinking": lambda n: [*(chat(**{"content" if i % 2 else "reasoning_content": "x"}) for i in range(n)), chat_end()],
        "annotations": lambda n: [chat(content="x"), *(chat(annotations=[{**CITED, "n": i}]) for i in range(n)), chat_end()],
        "tags": lambda n: [chat(content="<think>"), *(chat(content="<t") for _ in range(n)), chat_end()],
        "usage": lambda n: [*({**chat(content="x"), "usage": {"completion_tokens": i}} for i in range(n)), chat_end()],
        "extras": lambda n: [*(chat(content="x", **{f"k{i}": i}) for i in range(n)), chat_end()],
        "reasoning details": lambda n: [
            *(chat(reasoning_details=[{"type": "reasoning.encrypted", "data": "x", "index": i}]) for i in range(n)), chat_end(),
        ],
    },
    "openai-responses": {
        "text": lambda n: [
            *(response("output_text.delta", output_index=0, content_index=0, delta="word ") for _ in range(n)), response_end(),
        ],
        "annotations": lambda n: [
            *(response("output_text.annotation.added", output_index=0, content_index=0, annotation={"n": i}) for i in range(n)),
            response_end(),
        ],
        "items": lambda n: [
            *(response(f"output_item.{end}", output_index=i, item=item(i, "{}")) for i in range(n) for end in ("added", "done")),
            response_end([item(i, "{}") for i in range(n)]),
        ],
        "items that are open together": lambda n: [
            *(response("output_item.added", item=item(i)) for i in range(n)),
            *(response("output_item.done", item=item(i, "{}")) for i in range(n)), response_end(),
        ],
        "items without ids": lambda n: [
            *(response("output_item.added", item={"type": "function_call", "name": "f"}) for _ in range(n)),
            *(response("output_item.done", item={"type": "function_call", "name": "f", "arguments": "{}"}) for _ in range(n)),
            response_end(),
        ],
        "items at one index": lambda n: [
            *(response("output_item.added", output_index=0, item={"type": "message", "id": f"m{i}"}) for i in range(n)), response_end(),
        ],
        "summaries": lambda n: [
            *(response("reasoning_summary_text.delta", output_index=0, summary_index=i, delta="x") for i in range(n)), response_end(),
        ],
        "parts": lambda n: [
            *(response("output_text.delta", output_index=0, content_index=i, delta="x") for i in range(n)), response_end(),
        ],
        "two that take turns": lambda n: [
            *(response(f"{kind}.delta", item_id=kind, delta="x") for _ in range(n) for kind in ("reasoning_text", "output_text")),
            response_end(),
        ],
        "unknown events": lambda n: [*(response("new", n=i) for i in range(n)), response_end()],
    },
    "anthropic": {
        "text": lambda n: claude(
            claude_start(0, {"type": "text", "text": ""}), *(claude_delta(0, type="text_delta", text="word ") for _ in range(n)),
        ),
        "citations": lambda n: claude(
            claude_start(0, {"type": "text", "text": ""}),
            *(claude_delta(0, type="citations_delta", citation={"n": i}) for i in range(n)),
        ),
        "raw deltas": lambda n: claude(claude_start(0, {"type": "new"}), *(claude_delta(0, type="x", n=i) for i in range(n))),
        "open calls": lambda n: claude(*(claude_start(i, {"type": "tool_use", "id": f"t{i}", "name": "f"}) for i in range(n))),
        "no starts": lambda n: claude(*(claude_delta(i, type="text_delta", text="x") for i in range(n))),
        "two that take turns": lambda n: claude(
            *(claude_start(i, {"type": "text", "text": ""}) for i in range(2)),
            *(claude_delta(i % 2, type="text_delta", text="x") for i in range(n)),
        ),
        "usage": lambda n: claude(*({"type": "message_delta", "delta": {}, "usage": {f"k{i}": 1}} for i in range(n))),
        "leftovers": lambda n: claude(*({"type": "message_delta", "delta": {f"k{i}": 1}} for i in range(n))),
    },
    "bedrock": {
        "text": lambda n: [*(converse(0, text="word ") for _ in range(n)), BEDROCK_END],
        "citations": lambda n: [*(converse(0, citation={"n": i}) for i in range(n)), BEDROCK_END],
        "text and thinking": lambda n: [
            *(converse(0, text="x") if i % 2 else converse(0, reasoningContent={"text": "x"}) for i in range(n)), BEDROCK_END,
        ],
        "open blocks": lambda n: [*(converse(i, text="x") for i in range(n)), BEDROCK_END],
        "an image in pieces": lambda n: [*(converse(0, image={"source": {"bytes": "AAAA"}}) for _ in range(n)), BEDROCK_END],
        "redacted thinking in pieces": lambda n: [
            *(converse(0, reasoningContent={"redactedContent": "AAAA"}) for _ in range(n)), BEDROCK_END,
        ],
    },
    "gemini": {
        "text": lambda n: [*(gemini({"text": "word "}) for _ in range(n)), GEMINI_END],
        "text and thinking": lambda n: [*(gemini({"text": "x", "thought": bool(i % 2)}) for i in range(n)), GEMINI_END],
        "calls": lambda n: [*(gemini({"functionCall": {"name": "f", "args": {"n": i}}}) for i in range(n)), GEMINI_END],
        "arguments value by value": lambda n: [GEMINI_CALL, *(argument(f"$.a[{i}]", numberValue=i) for i in range(n)), GEMINI_END],
        "arguments out of order": lambda n: [
            GEMINI_CALL, *(argument(f"$.k{i % 7}.x{i}", numberValue=i) for i in range(n)), GEMINI_END,
        ],
        "a long string": lambda n: [GEMINI_CALL, *(argument("$.a", more=True, stringValue="x") for _ in range(n)), GEMINI_END],
        "citations": lambda n: [
            *(gemini({"text": "x"}, citationMetadata={"citationSources": [{"uri": f"u{i}"}]}) for i in range(n)), GEMINI_END,
        ],
        "leftovers": lambda n: [*(gemini({"text": "x"}, **{f"k{i}": 1}) for i in range(n)), GEMINI_END],
    },
    "ollama": {
        "text": lambda n: [*(ollama(content="word ") for _ in range(n)), OLLAMA_END],
        "text and thinking": lambda n: [*(ollama(**{"content" if i % 2 else "thinking": "x"}) for i in range(n)), OLLAMA_END],
        "calls": lambda n: [*(ollama(tool_calls=[{"function": {"name": "f", "arguments": {"n": i}}}]) for i in range(n)), OLLAMA_END],
    },
}  # fmt: skip


def body_of(wire: str, events: list[Event]) -> bytes:
    if wire == "gemini":
        return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)
    lines = "\n".join(json.dumps(event) for event in events)
    return recorded_body(WIRES[wire], lines.encode(), file_name="events.jsonl")


def decoded(wire: str, body: bytes, piece: int) -> None:
    decoder, fold = WIRES[wire].decoder(), MessageFold()
    for place in range(0, len(body), piece):
        if events := decoder.feed(body[place : place + piece]):
            fold.fold(events)
    fold.fold(decoder.close())
    fold.end_call()


@pytest.mark.parametrize(
    ("wire", "name"), [(wire, name) for wire, shapes in SHAPES.items() for name in shapes]
)
def test_decoding_an_answer(wire: str, name: str) -> None:
    def work_of(size: int) -> Work:
        body = body_of(wire, SHAPES[wire][name](size))
        return lambda: decoded(wire, body, 4096)

    assert cost_ratio(work_of, 2000 if name == "text" else 700) <= MOST


@pytest.mark.parametrize("wire", list(SHAPES))
def test_a_body_in_very_small_reads(wire: str) -> None:
    def work_of(size: int) -> Work:
        body = body_of(wire, SHAPES[wire]["text"](size))
        return lambda: decoded(wire, body, 16)

    assert cost_ratio(work_of, 300) <= MOST


def test_an_event_in_very_small_reads() -> None:
    def work_of(size: int) -> Work:
        body = body_of(
            "anthropic",
            [*SHAPES["anthropic"]["text"](0)[:2], claude_delta(0, type="text_delta", text="x" * size)],
        )
        decoder = WIRES["anthropic"].decoder()
        return lambda: [decoder.feed(body[n : n + 8]) for n in range(0, len(body), 8)]

    assert cost_ratio(work_of, 100_000) <= MOST


def test_bytes_in_pieces_have_a_bound() -> None:
    piece = "A" * (1024 * 1024)
    body = body_of("bedrock", [converse(0, image={"source": {"bytes": piece}})])
    decoder = WIRES["bedrock"].decoder()
    assert decoder.feed(body)
    for _ in range(DEFAULT_MAX_LENGTH // len(piece) - 1):
        decoder.feed(body)
    with pytest.raises(StreamBroken) as raised:
        decoder.feed(body)
    assert raised.value.code == "answer_too_large"
