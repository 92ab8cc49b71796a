"""Plain answers give the events of the equivalent stream."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wires.anthropic.test_anthropic_encoder import canonical
from turnstream.core.answers import Answer, fold_answer
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    MessageStop,
    Metadata,
    SignatureDelta,
    StreamError,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.usage import Usage
from turnstream.errors import MalformedEvent
from turnstream.wires import WIRES
from turnstream.wires.recording import fold_pieces, recorded_body

OURS = ("anthropic", "openai-chat", "ollama")
EVERY_WIRE = pytest.mark.parametrize("wire", [WIRES[name] for name in OURS], ids=OURS)
STOPS = {"anthropic": "end_turn", "openai-chat": "stop", "ollama": "stop"}
CALL_STOPS = {"anthropic": "tool_use", "openai-chat": "tool_calls", "ollama": "stop"}
RAW_USAGE: dict[str, Any] = {
    "anthropic": {"input_tokens": 3, "output_tokens": 4},
    "openai-chat": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    "ollama": {"prompt_eval_count": 3, "eval_count": 4},
}

texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
inputs = st.dictionaries(texts, st.integers(-9, 9) | texts | st.lists(st.booleans(), max_size=2), max_size=3)


@st.composite
def simple(draw: st.DrawFn, wire: str) -> list[StreamEvent]:
    """Blocks that all three wires can encode in one answer: thinking, then text, then calls."""
    events: list[StreamEvent] = [MessageStart(None if wire == "ollama" else "i", "m")]
    index = 0
    if draw(st.booleans()):
        events += [ContentBlockStart(0, "thinking"), ThinkingDelta(0, draw(texts))]
        if wire == "anthropic":
            events.append(SignatureDelta(0, draw(texts)))
        events.append(ContentBlockStop(0))
        index = 1
    if draw(st.booleans()):
        pieces = draw(st.lists(texts, min_size=1, max_size=3))
        events.append(ContentBlockStart(index, "text"))
        events += [TextDelta(index, piece) for piece in pieces]
        events.append(ContentBlockStop(index))
        index += 1
    calls = draw(st.lists(inputs, max_size=2))
    for number, given_input in enumerate(calls):
        place = index + number
        arguments = json.dumps(given_input, separators=(",", ":"), ensure_ascii=False)
        content = {"tool_use_id": f"c{number}", "tool_name": draw(texts)}
        events += [ContentBlockStart(place, "tool_use", content), ContentBlockStop(place)]
        if given_input:
            events.insert(-1, ToolInputDelta(place, arguments))
    raw = RAW_USAGE[wire]
    events.append(Metadata(Usage(3, 4), raw))
    stop = MessageStop("tool_use", CALL_STOPS[wire]) if calls else MessageStop("end_turn", STOPS[wire])
    return [*events, stop]


def without_written_arguments(answer: Answer) -> Any:
    """Return the answer without the written form of arguments. Only a stream keeps it, and only for
    objects."""

    def compared(block: Block) -> Any:
        content = dict(block.content or {})
        if content.get("input") is not None:
            content.pop("input_json", None)
        return block.block_type, block.text_content, content

    about = (answer.id, answer.model, answer.stop, answer.usage, answer.raw_usage, answer.error)
    return [compared(block) for block in answer.blocks], about


@EVERY_WIRE
@settings(max_examples=60, deadline=None)
@given(data=st.data())
@pytest.mark.requirement("J3")
def test_a_whole_answer_folds_to_what_its_stream_does(wire, data):
    events = data.draw(simple(wire.name))
    answer = fold_answer(events)
    again = wire.decode_answer(wire.encode_answer(answer))
    assert without_written_arguments(fold_answer(again)) == without_written_arguments(answer)
    assert isinstance(again[0], MessageStart)
    assert isinstance(again[-1], MessageStop)
    assert again == wire.decode_answer(json.dumps(json.loads(wire.encode_answer(answer)), indent=1).encode())


@settings(max_examples=150, deadline=None)
@given(canonical())
@pytest.mark.requirement("J3")
def test_all_that_anthropic_streams_it_can_say_whole(events: list[StreamEvent]) -> None:
    answer = fold_answer(events)
    if not answer.complete:
        return
    wire = WIRES["anthropic"]
    again = fold_answer(wire.decode_answer(wire.encode_answer(answer)))
    assert without_written_arguments(again) == without_written_arguments(answer)


@EVERY_WIRE
@pytest.mark.requirement("J3", "E6")
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b"3", b'"text"', b"{}", b'{"choices": []}', b'{"content": "text"}', b"<html>",
     b'{"content": [{"type": "text", "text": 3}]}', b'{"choices": [{"index": 0}]}', b'{"message": {"content": "a"}}',
     b"[" * 100_000, b'{"a":' * 100_000, b'{"content": [3]}', b"\xff\xfe"],
    ids=lambda body: body[:20].decode("utf-8", "replace"),
)  # fmt: skip
def test_what_is_no_answer_is_malformed(wire, body):
    with pytest.raises(MalformedEvent):
        wire.decode_answer(body)


@EVERY_WIRE
@settings(max_examples=60, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "type",
                        "content",
                        "choices",
                        "message",
                        "tool_calls",
                        "function",
                        "usage",
                        "error",
                        "done",
                        "role",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_an_answer_or_malformed(wire, value):
    try:
        fold_answer(wire.decode_answer(json.dumps(value).encode()))
    except MalformedEvent:
        pass


@pytest.mark.requirement("D4", "J3")
@pytest.mark.parametrize(
    ("wire", "body", "code"),
    [
        ("anthropic", {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, "overloaded_error"),
        ("openai-chat", {"error": {"message": "busy", "code": 429}}, "rate_limit_error"),
        ("ollama", {"error": "model 'x' not found"}, "not_found_error"),
    ],
)  # fmt: skip
def test_an_error_in_place_of_an_answer_is_the_streams(wire, body, code):
    (error,) = WIRES[wire].decode_answer(json.dumps(body).encode())
    assert isinstance(error, StreamError)
    assert error.code == code


@pytest.mark.requirement("J3")
def test_a_chat_completion_as_vendors_write_it():
    body = {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m", "system_fingerprint": "fp",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant", "content": "See.", "refusal": None, "reasoning_content": "Hm.",
                    "annotations": [{"type": "url_citation", "url_citation": {"url": "https://example.org"}}],
                    "tool_calls": [
                        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
                        {"id": "b", "type": "function", "function": {"name": "f", "arguments": ""}},
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }  # fmt: skip
    answer = fold_answer(WIRES["openai-chat"].decode_answer(json.dumps(body).encode()))
    assert [block.block_type for block in answer.blocks] == ["thinking", "text", "tool_use", "tool_use"]
    thinking, text, call, empty = answer.blocks
    assert (thinking.text_content, text.text_content) == ("Hm.", "See.")
    assert (text.content or {})["citations"]
    assert (call.content or {})["input_json"] == '{"x": 1}'
    assert (empty.content or {})["input"] == {}
    assert answer.stop == MessageStop("tool_use", "tool_calls")
    assert answer.usage == Usage(1, 2)


def recordings() -> list[Any]:
    folder = os.environ.get("TURNSTREAM_CORPUS")
    if not folder:
        return [
            pytest.param(
                "", "", id="no-corpus", marks=pytest.mark.skip(reason="TURNSTREAM_CORPUS is not set")
            )
        ]
    index = json.loads((Path(folder) / "index.json").read_text(encoding="utf-8"))
    return [
        pytest.param(entry["wire"], entry["file"], id=entry["file"])
        for entry in index
        if entry["wire"] in OURS and entry["expected"].get("complete") and not entry["expected"].get("error")
    ]


@pytest.mark.parametrize(("wire_name", "file"), recordings())
@pytest.mark.requirement("J3", "E1")
def test_recorded_answers_can_be_said_whole(wire_name: str, file: str) -> None:
    """Text, thinking, calls and the end are kept. Wires without block boundaries join adjacent texts."""
    wire = WIRES[wire_name]
    path = Path(os.environ["TURNSTREAM_CORPUS"]) / file
    fold, _ = fold_pieces(wire, [recorded_body(wire, path.read_bytes(), file_name=path.name)])
    answer = fold.finish()
    again = fold_answer(wire.decode_answer(wire.encode_answer(answer)))
    assert summary(again) == summary(answer)


def summary(answer: Answer) -> Any:
    def said(block_type: str) -> str:
        return "".join(block.text_content or "" for block in answer.blocks if block.block_type == block_type)

    calls = [block.content or {} for block in answer.blocks if block.block_type == "tool_use"]
    return (
        said("text"),
        said("thinking"),
        [(call["tool_use_id"], call["tool_name"], call["input"]) for call in calls],
        answer.stop,
        answer.usage,
    )
