"""Ollama's protocol from bytes to events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wires.ollama.lines import PNG, START, call, decode, done, line, message_of, text
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStop,
    Metadata,
    TextDelta,
    ThinkingDelta,
)
from turnstream.core.usage import Usage
from turnstream.errors import (
    StreamIncomplete,
)
from turnstream.wires.ollama.wire import WIRE
from turnstream.wires.recording import decode_pieces


def texts_of(data: bytes, block_type: str = "text") -> list[str]:
    return [b["text_content"] for b in message_of(data)["blocks"] if b["block_type"] == block_type]


def inputs_of(data: bytes) -> list[tuple[str, Any]]:
    blocks = [block["content"] for block in message_of(data)["blocks"] if block["block_type"] == "tool_use"]
    return [(content["tool_name"], content["input"]) for content in blocks]


# --- what servers send --------------------------------------------------------------------------------------


@pytest.mark.requirement("B1", "E2", "L4")
def test_thinking_and_text_are_blocks_of_their_own() -> None:
    body = line({"thinking": "h"}) + line({"thinking": "m"}) + text("a", "b") + done()
    assert decode(body) == [
        START,
        ContentBlockStart(0, "thinking"),
        ThinkingDelta(0, "h"),
        ThinkingDelta(0, "m"),
        ContentBlockStop(0),
        ContentBlockStart(1, "text"),
        TextDelta(1, "a"),
        TextDelta(1, "b"),
        ContentBlockStop(1),
        MessageStop("end_turn", "stop"),
    ]


@pytest.mark.requirement("E5")
@pytest.mark.parametrize(
    "last", ["", "c", "abc", "ab"], ids=["nothing", "a delta", "everything", "what was said"]
)
def test_the_final_line_says_nothing_twice(last: str) -> None:
    assert texts_of(text("a", "b") + done({"content": last})) == ["ab" if last in ("", "ab") else "abc"]
    thought = line({"thinking": "a"}) + line({"thinking": "b"}) + done({"thinking": last})
    assert texts_of(thought, "thinking") == ["ab" if last in ("", "ab") else "abc"]


@pytest.mark.requirement("E5")
def test_a_final_line_alone_is_the_answer() -> None:
    assert texts_of(done({"content": "all of it"})) == ["all of it"]


@pytest.mark.requirement("E5")
def test_a_final_line_repeats_thinking_text_and_calls_around_blocks() -> None:
    one, two = call("f", {"a": 1}), call("g", {})
    body = line({"thinking": "hm"}) + text("x") + line({"tool_calls": [one]}) + text("y")
    whole = body + done({"thinking": "hm", "content": "xyz", "tool_calls": [one, two]})
    found = message_of(whole)
    assert [(block["block_type"], block["text_content"]) for block in found["blocks"]] == [
        ("thinking", "hm"),
        ("text", "x"),
        ("tool_use", None),
        ("text", "yz"),
        ("tool_use", None),
    ]


@pytest.mark.requirement("B4", "E5")
def test_a_repetition_is_recognised_where_a_surrogate_pair_was_halved() -> None:
    halves = b'{"model":"m","message":{"content":"\\ud83d"}}\n{"message":{"content":"\\ude00!"}}\n'
    assert texts_of(halves + done({"content": "😀! 👍"})) == ["😀! 👍"]


@pytest.mark.requirement("E5", "G2")
def test_calls_come_on_any_line_and_get_ids_that_stay() -> None:
    calls = [call("f", {"a": 1}), call("f", {"a": 2})]
    body = line({"tool_calls": calls[:1]}) + done({"tool_calls": calls[1:]})
    assert inputs_of(body) == [("f", {"a": 1}), ("f", {"a": 2})]
    ids = [block["content"]["tool_use_id"] for block in message_of(body)["blocks"]]
    assert len(set(ids)) == 2
    assert ids == [block["content"]["tool_use_id"] for block in message_of(body)["blocks"]]
    later = body.replace(b"2026-01-01", b"2026-01-02")
    assert not set(ids) & {block["content"]["tool_use_id"] for block in message_of(later)["blocks"]}
    assert message_of(body)["stop_reason"] == "tool_use"
    assert message_of(body)["raw_stop_reason"] == "stop"


@pytest.mark.requirement("E5")
def test_given_ids_are_kept_and_never_used_twice() -> None:
    body = line({"tool_calls": [call("f", {}, id="c1"), call("f", {}, id="c1")]}) + done()
    first, second = (block["content"]["tool_use_id"] for block in message_of(body)["blocks"])
    assert first == "c1" != second


@pytest.mark.requirement("E5")
def test_a_call_on_the_final_line_with_another_id_is_another_call() -> None:
    body = line({"tool_calls": [call("f", {}, id="1")]}) + done({"tool_calls": [call("f", {}, id="2")]})
    assert len(inputs_of(body)) == 2


@pytest.mark.requirement("B4")
@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({}, {}),
        (None, {}),
        ('{"a": "é"}', {"a": "é"}),
        ("{", None),
        ([1], None),
        ({"😀": "\ud83d"}, {"😀": "\ufffd"}),
    ],
)
def test_arguments_of_any_form(arguments: Any, found: Any) -> None:
    body = line({"tool_calls": [call("f", arguments)]}) + done()
    if found == {"😀": "\ufffd"}:
        assert message_of(body)["blocks"][0]["content"]["input_error"]  # half a character is no valid JSON
        return
    assert inputs_of(body) == [("f", found)]


@pytest.mark.requirement("B3")
def test_images_are_blocks() -> None:
    block = message_of(line({"images": [PNG, "AAAA"]}) + done())["blocks"]
    assert [item["content"] for item in block] == [
        {"media_type": "image/png", "data": PNG},
        {"media_type": "application/octet-stream", "data": "AAAA"},
    ]


@pytest.mark.requirement("E5", "I1")
def test_counts_and_durations_are_exposed() -> None:
    numbers = {"total_duration": 3_000_000, "load_duration": 1, "prompt_eval_count": 4, "eval_count": 5}
    metadata = [event for event in decode(text("a") + done({}, **numbers)) if isinstance(event, Metadata)]
    assert metadata == [Metadata(Usage(input_tokens=4, output_tokens=5), numbers, latency_ms=3.0)]


@pytest.mark.requirement("E8")
def test_counts_after_the_end_are_collected() -> None:
    assert decode(done() + line(eval_count=7))[-1] == Metadata(Usage(output_tokens=7), {"eval_count": 7})


@pytest.mark.requirement("E1")
def test_what_a_server_says_beside_the_answer_is_kept() -> None:
    body = line({"content": "a", "mood": "good"}, remote_host="h") + done({}, context=[1, 2])
    found = [event.provider_metadata for event in decode(body) if isinstance(event, Metadata)]
    assert found == [{"remote_host": "h"}, {"message": {"mood": "good"}}, {"context": [1, 2]}]


@pytest.mark.requirement("E3")
@pytest.mark.parametrize(
    ("word", "reason"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("moon", "unknown"), (None, None)],
)
def test_stop_reasons(word: str | None, reason: str | None) -> None:
    assert decode(text("a") + done(done_reason=word))[-1] == MessageStop(reason, word)


@pytest.mark.requirement("D6", "P5")
@pytest.mark.parametrize("body", [b"", text("a"), text("a") + done()[:-3], b"\n\n"])
def test_without_a_line_that_is_done_the_stream_is_incomplete(body: bytes) -> None:
    decoder = WIRE.decoder()
    decoder.feed(body)
    with pytest.raises(StreamIncomplete):
        decoder.close()


@pytest.mark.requirement("E4")
def test_a_last_line_without_its_end_counts() -> None:
    assert message_of(text("a") + done().rstrip())["complete"] is True


# --- fields of look-alikes
# ----------------------------------------------------------------------------------------


@pytest.mark.fault(19)
@pytest.mark.parametrize(
    "said",
    [
        {"thinking": {"text": "hm"}},
        {"thinking": [{"type": "thinking", "thinking": "hm"}]},
        {"reasoning": "hm"},
        {"reasoning_content": [{"text": "hm"}]},
    ],
)
def test_thinking_in_any_shape(said: dict[str, Any]) -> None:
    found = decode_pieces(WIRE, [lines(said, {"content": [{"type": "text", "text": "yes"}]})])
    assert [(b["block_type"], b["text_content"]) for b in found["blocks"]] == [
        ("thinking", "hm"),
        ("text", "yes"),
    ]


def lines(*messages: dict[str, Any]) -> bytes:
    """Return a whole answer with these messages."""
    said = [
        {"model": "m", "message": {"role": "assistant", **message}, "done": False} for message in messages
    ]
    last = {"model": "m", "message": {"content": ""}, "done": True, "done_reason": "stop"}
    return b"".join(json.dumps(line).encode() + b"\n" for line in (*said, last))


@pytest.mark.fault(20)
@pytest.mark.parametrize(
    "extra", [{"index": 0}, {"token_ids": [1]}, {"speed": 1}, {"meta": {"n": 1}}, {"mood": "good"}]
)
def test_extras_in_each_line_are_kept_once(extra: dict[str, Any]) -> None:
    def message(n: int) -> dict[str, Any]:
        changed = {key: n if isinstance(value, int) else value for key, value in extra.items()}
        return {"content": "x", **changed}

    events = WIRE.decoder().feed(lines(*map(message, range(200))))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "x" * 200
    told = [
        event
        for event in events
        if isinstance(event, Metadata) and "message" in (event.provider_metadata or {})
    ]
    assert len(told) <= 1


@pytest.mark.fault(20)
def test_after_extras_new_fields_are_still_seen() -> None:
    messages = [{"content": "x", "mood": "good", "speed": n} for n in range(20)]
    events = WIRE.decoder().feed(lines(*messages, {"content": "y", "tone": "soft"}, *messages))
    told = [
        event.provider_metadata for event in events if isinstance(event, Metadata) and event.provider_metadata
    ]
    assert told[0] == {"message": {"mood": "good", "speed": 0}}
    assert {"message": {"mood": "good", "speed": 0, "tone": "soft"}} in told


@pytest.mark.fault(15)
def test_a_call_whose_name_stands_beside_its_function_or_without_one() -> None:
    flat = {"tool_calls": [{"name": "f", "arguments": {"x": 1}}]}
    beside = {"tool_calls": [{"name": "g", "function": {"arguments": {"y": 2}}}]}
    nameless = {"tool_calls": [{"function": {"arguments": {}}}]}
    found = decode_pieces(WIRE, [lines(flat, beside, nameless)])
    calls = [block["content"] for block in found["blocks"]]
    assert [(c["tool_name"], c["input"]) for c in calls] == [("f", {"x": 1}), ("g", {"y": 2}), ("", {})]
    assert len({c["tool_use_id"] for c in calls}) == 3
