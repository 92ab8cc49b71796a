"""Tool calls of chat.completions, for every numbering of their pieces."""

from __future__ import annotations

from typing import Any

import pytest

from tests.wires.openai_chat.chunks import (
    FINISH,
    blocks,
    body,
    call,
    calls,
    chunk,
    decode,
    fold,
    text,
)
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStop,
    StreamNotice,
    ToolInputDelta,
)
from turnstream.errors import MalformedEvent
from turnstream.wires.openai_chat.wire import WIRE

# --- tool calls ---------------------------------------------------------------------------------------------


@pytest.mark.requirement("B1", "B5")
def test_a_call_is_stopped_as_soon_as_another_begins() -> None:
    events = decode(
        calls(call(0, "a", "f", "")), calls(call(0, None, None, "{}")), calls(call(1, "b", "g", "{"))
    )
    assert events[:5] == [
        ContentBlockStart(0, "tool_use", {"tool_use_id": "a", "tool_name": "f"}),
        ToolInputDelta(0, "{}"),
        ContentBlockStop(0),
        ContentBlockStart(1, "tool_use", {"tool_use_id": "b", "tool_name": "g"}),
        ToolInputDelta(1, "{"),
    ]


@pytest.mark.requirement("B5")
def test_interleaved_calls_stay_apart() -> None:
    events = (
        calls(call(0, "a", "f", '{"x":'), call(1, "b", "g", '{"y"')),
        calls(call(1, None, None, ":2}"), call(0, None, None, "1}")),
        chunk(finish="tool_calls"),
    )
    assert blocks(*events) == [("f", "a", '{"x":1}'), ("g", "b", '{"y":2}')]


TOOL_CASES: dict[str, tuple[list[dict[str, Any]], list[tuple[str, str, str]]]] = {
    "the first index is not 0": ([call(1, "a", "f", "{}")], [("f", "a", "{}")]),
    "a new id at an old index": (
        [call(0, "a", "f", "{}"), call(0, "b", "g", "{}")],
        [("f", "a", "{}"), ("g", "b", "{}")],
    ),
    "empty id and name in what follows": (
        [call(0, "a", "f", "{"), {"index": 0, "id": "", "function": {"name": "", "arguments": "}"}}],
        [("f", "a", "{}")],
    ),
    "null id, name and arguments": (
        [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": None}},
            {"index": 0, "id": None, "type": None, "function": {"name": None, "arguments": "{}"}},
        ],
        [("f", "a", "{}")],
    ),
    "id and name repeated": (
        [call(0, "a", "f", "{"), call(0, "a", "f", "}"), call(0, "a", "f", "")],
        [("f", "a", "{}")],
    ),
    "no index, but ids": (
        [
            call(None, "a", "f", "{"),
            call(None, "b", "g", "{"),
            call(None, "a", None, "}"),
            call(None, "b", None, "}"),
        ],
        [("f", "a", "{}"), ("g", "b", "{}")],
    ),
    "neither index nor id in what follows": (
        [call(None, "a", "f", "{"), call(None, None, None, "}")],
        [("f", "a", "{}")],
    ),
    "the id comes late": ([call(0, None, "f", "{"), call(0, "a", None, "}")], [("f", "a", "{}")]),
    "the name comes late": ([call(0, "a"), call(0, None, "f", "{}")], [("f", "a", "{}")]),
    "the name comes in pieces": (
        [call(0, "a", "get_"), call(0, None, "time", ""), call(0, None, None, "{}")],
        [("get_time", "a", "{}")],
    ),
    "arguments as an object": ([call(0, "a", "f", {"x": 1})], [("f", "a", '{"x":1}')]),
    "an id that is a number": (
        [{"index": 0, "id": 7, "function": {"name": "f", "arguments": "{}"}}],
        [("f", "7", "{}")],
    ),
    "an id that says null": ([call(0, "a", "f", "{"), call(0, "null", None, "}")], [("f", "a", "{}")]),
    "no arguments at all": ([call(0, "a", "f"), call(1, "b", "g")], [("f", "a", ""), ("g", "b", "")]),
    "arguments that never become whole": (
        [call(0, "a", "f", '{"x":'), call(1, "b", "g", "{}")],
        [("f", "a", '{"x":'), ("g", "b", "{}")],
    ),
    "a custom tool's free text": (
        [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "SELECT 1"}}],
        [("f", "a", "SELECT 1")],
    ),
}


@pytest.mark.requirement("E1")
@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in one chunk"])
@pytest.mark.parametrize("case", TOOL_CASES)
def test_tool_calls_however_they_are_numbered(case: str, together: bool) -> None:
    fragments, expected = TOOL_CASES[case]
    chunks = [calls(*fragments)] if together else [calls(fragment) for fragment in fragments]
    assert blocks(*chunks, chunk(finish="tool_calls")) == expected


def test_calls_without_any_id_get_one_that_is_stable_and_unique() -> None:
    events = (calls(call(0, "", "f", "{}"), call(0, "", "f", "{}")), chunk(finish="tool_calls"))
    (_, first, _), (_, second, _) = found = blocks(*events)
    assert first.startswith("call_")
    assert first != second
    assert len(first) <= 40
    assert found == blocks(*events)


def test_a_legacy_function_call() -> None:
    first = chunk({"function_call": {"name": "f", "arguments": ""}})
    rest = [chunk({"function_call": {"arguments": part}}) for part in ("{", "}")]
    events = decode(first, *rest, chunk(finish="function_call"))
    assert events[-1] == MessageStop("tool_use", "function_call")
    assert [event for event in events if isinstance(event, ToolInputDelta)] == [
        ToolInputDelta(0, "{"),
        ToolInputDelta(0, "}"),
    ]
    assert isinstance(events[0], ContentBlockStart)
    assert events[0].block_type == "tool_use"


def test_a_null_or_empty_function_call_is_none() -> None:
    assert blocks(chunk({"content": "a", "function_call": None}), chunk({"function_call": {}}), FINISH) == [
        ("text", "a")
    ]


@pytest.mark.requirement("B4")
def test_arguments_after_a_call_has_ended_are_never_lost_in_silence() -> None:
    events = [calls(call(0, "a", "f", "{}")), text("x"), calls(call(0, None, None, ' {"y":1}'))]
    decoder = WIRE.decoder()
    decoder.feed(body(*events))
    with pytest.raises(MalformedEvent):
        decoder.close()
    assert any(isinstance(event, StreamNotice) for event in decode(*events, on_malformed="skip"))
    assert blocks(*events[:2], calls(call(0, None, None, "\n")), FINISH) == [("f", "a", "{}"), ("text", "x")]


@pytest.mark.requirement("E3")
def test_a_forced_tool_call_ends_as_tool_use() -> None:
    assert decode(calls(call(0, "a", "f", "{}")), FINISH)[-1] == MessageStop("tool_use", "stop")
    assert decode(calls(call(0, "a", "f", "{")), chunk(finish="length"))[-1] == MessageStop(
        "max_tokens", "length"
    )


def test_what_a_vendor_adds_to_a_call_goes_with_it() -> None:
    signed = {
        **call(0, "a", "f", "{}"),
        "type": "function",
        "extra_content": {"google": {"thought_signature": "S"}},
    }
    (block,) = fold(calls(signed), FINISH)
    assert block["content"]["provider_metadata"] == {"extra_content": {"google": {"thought_signature": "S"}}}


def test_a_call_that_is_in_no_list() -> None:
    assert blocks(chunk({"tool_calls": call(0, "a", "f", "{}")}), FINISH) == [("f", "a", "{}")]
