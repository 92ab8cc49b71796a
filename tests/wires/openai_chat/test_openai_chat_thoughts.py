"""Reasoning of chat.completions vendors in every form, in streams and in plain answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wires.openai_chat.chunks import FINISH, body, calls, chunk, decode, fold, text
from tests.wires.openai_chat.chunks import call as fragment
from tests.wires.openai_chat.test_openai_chat_decoder import WIRE
from turnstream.core.blocks import Block, Message
from turnstream.core.history import PastTurn, build_history
from turnstream.core.stream_events import ContentBlockStart, Metadata, SignatureDelta, ThinkingDelta
from turnstream.wires.base import ModelRequest
from turnstream.wires.recording import decode_pieces

SUMMARY = {"type": "summary_text", "text": "a"}
SHAPES: dict[str, dict[str, Any]] = {
    "a part of type reasoning with a list as summary": {"content": [{"type": "reasoning", "summary": [SUMMARY]}]},
    "a part of type reasoning with a string as summary": {"content": [{"type": "reasoning", "summary": "a"}]},
    "a part of type reasoning with content": {
        "content": [{"type": "reasoning", "content": [{"type": "reasoning_text", "text": "a"}]}]
    },
    "a part of type reasoning with its own name": {"content": [{"type": "reasoning", "reasoning": "a"}]},
    "a part of type thinking": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}]},
    "a part of type thought": {"content": [{"type": "thought", "text": "a"}]},
    "one part instead of a list": {"content": {"type": "reasoning", "summary": [SUMMARY]}},
    "the same text under two names": {"reasoning": {"text": "a", "content": "a"}},
    "reasoning_content as an object": {"reasoning_content": {"text": "a"}},
    "reasoning_content as a list": {"reasoning_content": [{"type": "text", "text": "a"}]},
    "reasoning_content as an object in an object": {"reasoning_content": {"reasoning_text": {"text": "a"}}},
    "reasoning as an object": {"reasoning": {"content": "a"}},
    "reasoning as a list of strings": {"reasoning": ["a"]},
    "reasoning with a summary": {"reasoning": {"summary": [SUMMARY]}},
    "thinking as an object": {"thinking": {"thinking": "a"}},
    "thinking as a list": {"thinking": [{"type": "thinking", "thinking": "a"}]},
    "reasoning_details as an object": {"reasoning_details": {"type": "reasoning.text", "text": "a"}},
    "reasoning_details as a string": {"reasoning_details": "a"},
    "reasoning_details of another type": {"reasoning_details": [{"type": "thought", "text": "a"}]},
    "thinking_blocks": {"thinking_blocks": [{"type": "thinking", "thinking": "a"}]},
    "thinking_blocks as a string": {"thinking_blocks": "a"},
    "thinking_blocks as an object": {"thinking_blocks": {"thinking": "a"}},
    "thinking_blocks in another field": {
        "provider_specific_fields": {"thinking_blocks": [{"type": "thinking", "thinking": "a"}]}
    },
    "reasoning_content in another field": {"provider_specific_fields": {"reasoning_content": "a"}},
}  # fmt: skip


@pytest.mark.fault(19)
@pytest.mark.parametrize("shape", SHAPES)
def test_reasoning_in_any_shape_is_thinking(shape: str) -> None:
    found = fold(chunk({"role": "assistant", **SHAPES[shape]}), chunk(SHAPES[shape]), text("b"), FINISH)
    assert [(block["block_type"], block["text_content"]) for block in found] == [
        ("thinking", "aa"),
        ("text", "b"),
    ]


def answer(message: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the text and thinking blocks of a plain answer."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    whole = {"id": "c", "model": "m", "object": "chat.completion", "choices": [choice]}
    events = WIRE.decode_answer(json.dumps(whole).encode())
    kinds = {event.index: event.block_type for event in events if isinstance(event, ContentBlockStart)}
    texts = dict.fromkeys(kinds, "")
    for event in events:
        if said := getattr(event, "text", None):
            texts[event.index] += said  # pyright: ignore[reportAttributeAccessIssue]
    return [(kinds[index], texts[index]) for index in kinds]


@pytest.mark.fault(19)
@pytest.mark.parametrize("shape", SHAPES)
def test_reasoning_in_a_plain_answer_is_thinking(shape: str) -> None:
    message = SHAPES[shape]
    if "content" in message:
        parts = message["content"] if isinstance(message["content"], list) else [message["content"]]
        message = {"content": [*parts, {"type": "text", "text": "b"}]}
    else:
        message = {"content": "b", **message}
    assert answer(message) == [("thinking", "a"), ("text", "b")]


@pytest.mark.fault(19)
@pytest.mark.parametrize(
    "signed",
    [
        {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "", "signature": "S"}]}]},
        {"reasoning_content": {"signature": "S"}},
        {"thinking": {"thinking": "", "signature": "S"}},
        {"signature": "S"},
    ],
)  # fmt: skip
def test_a_signature_in_any_shape_signs_the_thinking(signed: dict[str, Any]) -> None:
    thinking, _ = fold(chunk({"reasoning_content": "a"}), chunk(signed), chunk(signed), text("b"), FINISH)
    assert (thinking["text_content"], thinking["content"]["signature"]) == ("a", "S")


@pytest.mark.fault(19)
@pytest.mark.parametrize(
    ("delta", "trace"),
    [
        ({"reasoning": {"secret": "words"}}, "words"),
        ({"content": [{"type": "reasoning", "encrypted_content": "words"}]}, "words"),
        ({"content": [{"type": "poem", "text": "words"}]}, "words"),
        ({"analysis": "words"}, "words"),
        ({"refusal": {"text": "words"}}, "words"),
        ({"annotations": "words"}, "words"),
        ({"tool_calls": "words"}, "words"),
        ({"function_call": ["words"]}, "words"),
        ({"signature": {"of": "words"}}, "words"),
        ({"provider_specific_fields": ["words"]}, "words"),
        ({"analysis": {"text": "words"}}, "words"),
    ],
)
@pytest.mark.parametrize("whole", [False, True], ids=["streamed", "plain"])
def test_nothing_that_carries_text_is_lost_without_a_trace(
    delta: dict[str, Any], trace: str, whole: bool
) -> None:
    if whole:
        choice = {"index": 0, "message": delta, "finish_reason": "stop"}
        events = WIRE.decode_answer(json.dumps({"id": "c", "choices": [choice]}).encode())
    else:
        events = decode(chunk(delta), FINISH)
    kept = [event.content for event in events if isinstance(event, ContentBlockStart)]
    beside = [event.provider_metadata for event in events if isinstance(event, Metadata)]
    assert trace in json.dumps([kept, beside])


@pytest.mark.fault(19)
def test_text_that_streams_in_an_unknown_field_is_told() -> None:
    events = decode(*[chunk({"analysis": word}) for word in ("a", "b", "c")], text("x"), FINISH)
    told = [event for event in events if type(event).__name__ == "StreamNotice"]
    assert [event.code for event in told] == ["unread_field"]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.fault(19)
@pytest.mark.parametrize("said", ["", "Well."])
def test_reasoning_in_a_signed_part_goes_back_in_that_part(said: str) -> None:
    """As Databricks streams Anthropic's thinking."""

    def reasoning(words: str, signature: str = "") -> dict[str, Any]:
        summary = [{"type": "summary_text", "text": words, "signature": signature}]
        return chunk({"role": "assistant", "content": [{"type": "reasoning", "summary": summary}]})

    folded = fold(reasoning("Let "), reasoning("me."), reasoning("", "SIG"), text(said), CALL, TOOL_END)
    assert (folded[0]["text_content"], folded[0]["content"]["signature"]) == ("Let me.", "SIG")
    part = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Let me.", "signature": "SIG"}]}
    assert next_request(folded)["content"] == [part, *([{"type": "text", "text": said}] if said else [])]


# --- thinking_blocks (LiteLLM before Anthropic)
# ---------------------------------------------------------------


def entry(thinking: str = "", signature: str | None = None, **more: Any) -> dict[str, Any]:
    return {"type": "thinking", "thinking": thinking, "signature": signature, **more}


def litellm(thinking: str, signature: str | None = None, *, plainly: bool, inside: bool) -> dict[str, Any]:
    """A delta as LiteLLM writes it, with or without the plain text, with entries in one field or in two."""
    blocks = {"thinking_blocks": [entry(thinking, signature)]}
    return chunk(
        {
            "content": "",
            **({"reasoning_content": thinking} if plainly else {}),
            **({} if inside else blocks),
            "provider_specific_fields": blocks,
        }
    )


CALL = calls(fragment(0, "a", "f", "{}"))
TOOL_END = chunk(finish="tool_calls")


@pytest.mark.fault(20)
@pytest.mark.parametrize("plainly", [False, True], ids=["entries alone", "with reasoning_content"])
@pytest.mark.parametrize("inside", [False, True], ids=["thinking_blocks", "provider_specific_fields"])
def test_thinking_blocks_are_taken_once_and_go_back(plainly: bool, inside: bool) -> None:
    events = [litellm(word, plainly=plainly, inside=inside) for word in ("Let ", "me.")]
    signed = litellm("", "SIG", plainly=plainly, inside=inside)
    folded = fold(*events, signed, signed, CALL, TOOL_END)
    thinking, tool = folded
    assert (thinking["text_content"], thinking["content"]["signature"]) == ("Let me.", "SIG")
    sent = next_request(folded)
    assert sent["thinking_blocks"] == [{"type": "thinking", "thinking": "Let me.", "signature": "SIG"}]
    assert sent["tool_calls"][0]["id"] == tool["content"]["tool_use_id"]


def next_request(folded: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the assistant's message in the request with the tool's result."""
    said = [Block(n, b["block_type"], b["text_content"], b["content"]) for n, b in enumerate(folded)]
    calls_made = [b for b in said if b.block_type == "tool_use"]
    results = [
        Block(0, "tool_result", None, {"tool_use_id": (b.content or {})["tool_use_id"], "content": "ok"})
        for b in calls_made
    ]
    turns = [
        PastTurn("user", "complete", [Block(0, "text", "go")]),
        PastTurn("assistant", "complete", [*said, *results]),
    ]
    request = ModelRequest("m", build_history(turns))
    return json.loads(WIRE.encode_request(request).body)["messages"][1]


@pytest.mark.fault(20)
@pytest.mark.parametrize("shown", ["reasoning_content", "entries"])
def test_an_entry_that_repeats_the_whole_thought_is_not_shown_again(shown: str) -> None:
    pieces = [
        chunk({"reasoning_content": word} if shown == "reasoning_content" else {"thinking_blocks": [entry(word)]})
        for word in ("Let ", "me.")
    ]  # fmt: skip
    whole = chunk({"thinking_blocks": [entry("Let me.", "SIG")]})
    before = fold(*pieces, whole, CALL, TOOL_END)
    after = fold(*pieces, CALL, whole, TOOL_END)
    for folded in (before, after):
        assert "".join(b["text_content"] for b in folded if b["block_type"] == "thinking") == "Let me."
        assert next_request(folded)["thinking_blocks"] == [
            {"type": "thinking", "thinking": "Let me.", "signature": "SIG"}
        ]


@pytest.mark.fault(20)
def test_two_thoughts_have_a_signature_each() -> None:
    folded = fold(
        chunk({"reasoning_content": "a", "thinking_blocks": [entry("a")]}),
        chunk({"thinking_blocks": [entry("", "S1")]}),
        chunk({"reasoning_content": "b", "thinking_blocks": [entry("b")]}),
        chunk({"thinking_blocks": [entry("", "S2")]}),
        CALL,
        TOOL_END,
    )
    assert [(b["text_content"], b["content"]["signature"]) for b in folded[:2]] == [("a", "S1"), ("b", "S2")]
    assert next_request(folded)["thinking_blocks"] == [
        {"type": "thinking", "thinking": "a", "signature": "S1"},
        {"type": "thinking", "thinking": "b", "signature": "S2"},
    ]


@pytest.mark.fault(20)
def test_redacted_thinking_goes_back_as_it_came() -> None:
    redacted = {"type": "redacted_thinking", "data": "SECRET"}
    folded = fold(chunk({"thinking_blocks": [redacted]}), CALL, TOOL_END)
    assert folded[0]["content"]["redacted"] == "SECRET"
    assert next_request(folded)["thinking_blocks"] == [redacted]


@pytest.mark.fault(20)
def test_a_plain_answer_with_thinking_blocks() -> None:
    message = {
        "content": "b",
        "reasoning_content": "a",
        "thinking_blocks": [entry("a", "SIG")],
        "provider_specific_fields": {"thinking_blocks": [entry("a", "SIG")], "citations": None},
    }
    assert answer(message) == [("thinking", "a"), ("text", "b")]
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    events = WIRE.decode_answer(json.dumps({"id": "c", "choices": [choice]}).encode())
    assert [event for event in events if isinstance(event, SignatureDelta)] == [SignatureDelta(0, "SIG")]
    assert sum(isinstance(event, ThinkingDelta) for event in events) == 1


@pytest.mark.fault(20)
def test_thinking_blocks_survive_the_wire_and_a_request() -> None:
    events = decode(
        chunk({"reasoning_content": "a"}), chunk({"thinking_blocks": [entry("", "SIG")]}), CALL, TOOL_END
    )
    encoder = WIRE.encoder(model="m", message_id="c")
    again = decode_pieces(WIRE, [encoder.feed(events) + encoder.close()])
    assert again["blocks"] == decode_pieces(WIRE, [body(*_chunks())])["blocks"]
    said = {"role": "assistant", "content": "b", "thinking_blocks": [entry("a", "SIG")]}
    asked = {"model": "m", "messages": [{"role": "user", "content": "go"}, said]}
    request = WIRE.decode_request("/chat/completions", json.dumps(asked).encode())
    thinking = request.messages[1].blocks[0]
    assert (thinking.text_content, (thinking.content or {})["signature"]) == ("a", "SIG")
    sent = json.loads(WIRE.encode_request(ModelRequest("m", (*request.messages, USER))).body)
    assert sent["messages"][1]["thinking_blocks"] == [entry("a", "SIG")]


USER = Message("user", (Block(0, "text", "and?"),))


def _chunks() -> list[dict[str, Any]]:
    return [chunk({"reasoning_content": "a"}), chunk({"thinking_blocks": [entry("", "SIG")]}), CALL, TOOL_END]


@pytest.mark.fault(20)
def test_what_a_vendor_adds_to_a_call_goes_back_with_it() -> None:
    """Gemini's thought signatures, as LiteLLM passes them on."""
    signed = {**fragment(0, "a", "f", "{}"), "provider_specific_fields": {"thought_signature": "TS"}}
    sent = next_request(fold(calls(signed), TOOL_END))
    assert sent["tool_calls"][0]["provider_specific_fields"] == {"thought_signature": "TS"}
