"""chat.completions from bytes to events: blocks, ends, usage, and fields beside the answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wires.openai_chat.chunks import DONE, END, FINISH, START, blocks, body, call, chunk, decode, text
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    MessageStop,
    Metadata,
    TextDelta,
)
from turnstream.core.usage import Usage
from turnstream.errors import StreamIncomplete
from turnstream.wires.openai_chat.wire import WIRE
from turnstream.wires.recording import decode_pieces


@pytest.mark.requirement("E1", "E2")
def test_a_plain_answer() -> None:
    events = decode(chunk({"role": "assistant", "content": ""}), text("Hel"), text("lo"), FINISH)
    assert events == [
        ContentBlockStart(0, "text"),
        TextDelta(0, "Hel"),
        TextDelta(0, "lo"),
        ContentBlockStop(0),
        END,
    ]


@pytest.mark.requirement("B1")
def test_a_block_ends_where_the_kind_changes() -> None:
    events = (
        chunk({"reasoning_content": "a"}),
        chunk({"reasoning": "b", "content": "c"}),
        chunk({"reasoning_text": "d"}),
        chunk({"content": "e", "tool_calls": [call(0, "i", "f", "{}")]}),
        text("g"),
        FINISH,
    )
    expected = [
        ("thinking", "ab"),
        ("text", "c"),
        ("thinking", "d"),
        ("text", "e"),
        ("f", "i", "{}"),
        ("text", "g"),
    ]
    assert blocks(*events) == expected


@pytest.mark.requirement("B1")
def test_a_second_message_in_one_body_begins_new_blocks() -> None:
    second = chunk({"content": "b"}, id="d")
    assert blocks(text("a"), FINISH, second, chunk(finish="stop", id="d")) == [("text", "a"), ("text", "b")]
    assert blocks(text("a"), FINISH, text("b")) == [("text", "ab")], "late, but of the same message"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "reasoning_text", "thinking"])
def test_reasoning_by_any_name(name: str) -> None:
    assert blocks(chunk({name: "a"}), chunk({name: "b", "content": ""}), FINISH) == [("thinking", "ab")]


def test_reasoning_under_two_names_is_one() -> None:
    both = chunk({"reasoning": "a", "reasoning_content": "a"})
    assert blocks(both, FINISH) == [("thinking", "a")]


# --- begin, end, usage --------------------------------------------------------------------------------------


@pytest.mark.requirement("E3")
@pytest.mark.parametrize(
    ("raw", "ours"),
    [
        ("stop", "end_turn"), ("length", "max_tokens"), ("tool_calls", "tool_use"), ("function_call", "tool_use"),
        ("content_filter", "content_filtered"), ("eos_token", "end_turn"), ("STOP", "end_turn"), ("model_length", "max_tokens"),
        ("sensitive", "content_filtered"), ("stop_sequence", "stop_sequence"), ("wibble", "unknown"),
    ],
)  # fmt: skip
def test_stop_reasons(raw: str, ours: str) -> None:
    assert decode(text("a"), chunk(finish=raw))[-1] == MessageStop(ours, raw)  # type: ignore[arg-type]


@pytest.mark.requirement("E3")
@pytest.mark.parametrize("field", ["stop_reason", "matched_stop"])
def test_a_stop_sequence_that_a_vendor_names(field: str) -> None:
    finish = chunk(finish="stop")
    finish["choices"][0][field] = "END"
    assert decode(text("a"), finish)[-1] == MessageStop("stop_sequence", "stop", "END")
    finish["choices"][0][field] = 128001
    assert decode(text("a"), finish)[-1] == END
    finish["choices"][0][field] = "end_turn"
    assert decode(text("a"), finish)[-1] == END


@pytest.mark.parametrize("empty", [None, "", "null"])
def test_an_empty_finish_reason_is_none(empty: Any) -> None:
    assert decode(chunk({"content": "a"}, empty), FINISH)[-1] == END
    assert decode(chunk({"content": "a"}, empty))[-1] == MessageStop(None, None)


@pytest.mark.requirement("E4", "D6", "P5")
def test_the_end_with_and_without_its_marks() -> None:
    def ends(*events: Any, done: bool) -> Any:
        decoded = decode_pieces(WIRE, [body(*events, done=done)])
        return decoded["complete"], (decoded["error"] or {}).get("code"), decoded["stop_reason"]

    assert ends(text("a"), FINISH, done=True) == (True, None, "end_turn")
    assert ends(text("a"), FINISH, done=False) == (True, None, "end_turn")
    assert ends(text("a"), done=True) == (True, None, None)
    assert ends(text("a"), done=False) == (False, "stream_incomplete", None)
    assert ends(done=True) == (False, "stream_incomplete", None)
    assert ends(done=False) == (False, "stream_incomplete", None)
    assert ends(chunk({"role": "assistant"}), done=True) == (False, "stream_incomplete", None)
    assert ends(chunk(usage={"prompt_tokens": 1}), done=True) == (False, "stream_incomplete", None)
    assert ends(FINISH, done=True) == (True, None, "end_turn")


@pytest.mark.requirement("D6", "P5")
@pytest.mark.parametrize("lost", [1, 10, 30])
def test_a_last_event_cut_in_two_is_incomplete_and_not_malformed(lost: int) -> None:
    whole = body(text("abc"), text("def"), done=False)
    decoder = WIRE.decoder()
    decoder.feed(whole[: -lost - 2])
    with pytest.raises(StreamIncomplete):
        decoder.close()
    decoder = WIRE.decoder()
    decoder.feed(body(text("abc"), FINISH, done=False) + b'data: {"choices":[],"usage":{"prompt')
    assert decoder.close()[-1] == END, "the model's end had come"


def test_a_last_event_without_its_blank_line_counts() -> None:
    decoder = WIRE.decoder()
    decoder.feed(body(text("a"), done=False) + b"data: " + json.dumps(FINISH).encode())
    assert decoder.close() == [ContentBlockStop(0), END]
    assert decoder.close() == []


@pytest.mark.requirement("E8", "I1")
def test_usage_wherever_it_comes() -> None:
    first, second = (
        {"prompt_tokens": 3, "completion_tokens": 1},
        {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    )
    moonshot = chunk({}, "stop")
    moonshot["choices"][0]["usage"] = second
    for events in (
        [chunk({"content": "a"}, usage=first), FINISH, {"id": "c", "choices": [], "usage": second}],
        [chunk({"content": "a"}, usage=first), chunk(finish="stop", usage=second)],
        [text("a"), chunk(finish="stop", x_groq={"id": "r", "usage": second})],
        [text("a"), moonshot],
        [text("a"), FINISH, DONE, {"id": "c", "choices": [], "usage": second}],
    ):
        decoded = decode_pieces(WIRE, [body(*events)])
        assert decoded["raw_usage"] == second
        assert decoded["usage"]["input_tokens"] == 3
        assert decoded["usage"]["output_tokens"] == 2
        assert decoded["complete"]


@pytest.mark.requirement("I1")
def test_usage_details() -> None:
    raw = {
        "prompt_tokens": 100, "completion_tokens": 20.0, "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 7}, "cost": 0.1,
    }  # fmt: skip
    (event,) = [
        event for event in decode(text("a"), chunk(finish="stop", usage=raw)) if isinstance(event, Metadata)
    ]
    assert event == Metadata(Usage(100, 20, 60, 5, 7), raw)
    odd = {
        "prompt_tokens": 10**30,
        "completion_tokens": "many",
        "input_tokens": 4,
        "prompt_cache_hit_tokens": 2,
        "prompt_tokens_details": None,
    }
    (event,) = [
        event for event in decode(text("a"), chunk(finish="stop", usage=odd)) if isinstance(event, Metadata)
    ]
    assert event.usage == Usage(input_tokens=4, cache_read_tokens=2)


def test_equal_usage_reports_are_one_event() -> None:
    usage = {"prompt_tokens": 1}
    events = decode(
        chunk({"content": "a"}, usage=usage),
        chunk({"content": "b"}, usage=usage),
        chunk(finish="stop", usage=usage),
    )
    assert sum(isinstance(event, Metadata) for event in events) == 1


@pytest.mark.requirement("E1")
def test_what_a_vendor_says_beside_the_answer_is_kept() -> None:
    finish = chunk(finish="stop", time_info={"queue_time": 0.1})
    finish["choices"][0]["native_finish_reason"] = "completed"
    events = decode(
        chunk({"content": "a"}, provider="P", service_tier="default", obfuscation="x"),
        chunk({"content": "b"}, provider="P"),
        finish,
    )
    assert [event.provider_metadata for event in events if isinstance(event, Metadata)] == [
        {"provider": "P", "service_tier": "default"},
        {"time_info": {"queue_time": 0.1}, "native_finish_reason": "completed"},
    ]


def test_a_message_starts_once_its_name_is_known() -> None:
    filtered = {"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
    decoder = WIRE.decoder()
    events = decoder.feed(body(filtered, text("a"), FINISH))
    assert [event for event in events if isinstance(event, MessageStart)] == [START]
    nameless = WIRE.decoder().feed(body({"choices": [{"index": 0, "delta": {"content": "a"}}]}))
    assert nameless[0] == MessageStart(None, None)
