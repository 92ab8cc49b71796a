"""Tool calls of chat.completions whose names, ids and indexes come in any order, or twice."""

from __future__ import annotations

import gc
import json
import time
from typing import Any

import pytest

from tests.wires.openai_chat.chunks import FINISH, blocks, body, call, calls, chunk, text
from tests.wires.openai_chat.test_openai_chat_decoder import WIRE
from turnstream.core.stream_events import ContentBlockStart, StreamEvent, ToolInputDelta
from turnstream.errors import MalformedEvent
from turnstream.wires.recording import decode_pieces

END = chunk(finish="tool_calls")
OURS = "an id of ours"


def legacy(name: Any = None, arguments: Any = None) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {"function_call": function}


def found(*events: Any) -> list[tuple[Any, ...]]:
    """Return the calls and the other blocks of a message. Ids from the decoder are replaced by `OURS`."""
    return [
        (block[0], OURS, block[2]) if len(block) == 3 and block[1].startswith("call_") else block
        for block in blocks(*events)
    ]


LATE_NAMES: dict[str, tuple[list[dict[str, Any]], list[tuple[Any, ...]]]] = {
    "after the arguments": (
        [calls(call(0, "a", None, '{"x":1}')), calls(call(0, None, "f"))],
        [("f", "a", '{"x":1}')],
    ),
    "with the last arguments": (
        [calls(call(0, "a", None, '{"x"')), calls(call(0, None, "f", ":1}"))],
        [("f", "a", '{"x":1}')],
    ),
    "in the middle of the arguments": (
        [calls(call(3, "a", None, '{"x"')), calls(call(3, None, "f")), calls(call(3, None, None, ":1}"))],
        [("f", "a", '{"x":1}')],
    ),
    "in pieces between the arguments": (
        [calls(call(0, "a", "get_", '{"x"')), calls(call(0, None, "time", ":1}"))],
        [("get_time", "a", '{"x":1}')],
    ),
    "in pieces after the arguments": (
        [
            calls(call(0, "a", None, "{}")),
            calls(call(0, None, "get_")),
            calls(call(0, None, "time")),
        ],
        [("get_time", "a", "{}")],
    ),
    "longer each time": (
        [calls(call(0, "a", "get", "")), calls(call(0, "a", "get_time", "{}"))],
        [("get_time", "a", "{}")],
    ),
    "by the id, without an index": (
        [calls(call(None, "a", None, "{}")), calls(call(None, "a", "f"))],
        [("f", "a", "{}")],
    ),
    "without index and id": (
        [calls(call(None, None, None, "{}")), calls(call(None, None, "f"))],
        [("f", OURS, "{}")],
    ),
    "of two calls in turn, by index": (
        [
            calls(call(0, "a", None, "{}"), call(1, "b", None, '{"y":2}')),
            calls(call(1, None, "g"), call(0, None, "f")),
        ],
        [("f", "a", "{}"), ("g", "b", '{"y":2}')],
    ),
    "of two calls in turn, by id alone": (
        [
            calls(call(None, "a", None, "{}")),
            calls(call(None, "b", None, '{"y":2}')),
            calls(call(None, "a", "f")),
            calls(call(None, "b", "g")),
        ],
        [("f", "a", "{}"), ("g", "b", '{"y":2}')],
    ),
    "in the finish chunk": (
        [
            calls(call(0, "a", None, "{}")),
            chunk({"tool_calls": [call(0, None, "f")]}, "tool_calls"),
        ],
        [("f", "a", "{}")],
    ),
    "after the finish chunk": (
        [calls(call(0, "a", None, "{}")), END, calls(call(0, None, "f"))],
        [("f", "a", "{}")],
    ),
    "after a text": (
        [calls(call(0, "a", None, "{}")), text("so"), calls(call(0, None, "f"))],
        [("f", "a", "{}"), ("text", "so")],
    ),
    "with the id, after the arguments": (
        [calls(call(0, None, None, "{}")), calls(call(0, "a", "f"))],
        [("f", "a", "{}")],
    ),
    "beside the function": (
        [calls({"index": 0, "id": "a", "name": "f", "function": {"arguments": "{}"}})],
        [("f", "a", "{}")],
    ),
    "without a function": (
        [calls({"index": 0, "id": "a", "name": "f", "arguments": "{}"})],
        [("f", "a", "{}")],
    ),
    "of a legacy call": (
        [chunk(legacy(None, '{"x":')), chunk(legacy(None, "1}")), chunk(legacy("f"))],
        [("f", OURS, '{"x":1}')],
    ),
    "of a legacy call, in the finish chunk": (
        [chunk(legacy(None, "{")), chunk(legacy("f", "}"), "function_call")],
        [("f", OURS, "{}")],
    ),
    "of a legacy call, in pieces": (
        [chunk(legacy("get_", "{")), chunk(legacy("time", "}"))],
        [("get_time", OURS, "{}")],
    ),
    "never": (
        [calls(call(0, "a", None, "{}")), text("so")],
        [("", "a", "{}"), ("text", "so")],
    ),
}


@pytest.mark.fault(15)
@pytest.mark.parametrize("case", LATE_NAMES)
def test_a_name_may_come_at_any_time(case: str) -> None:
    events, expected = LATE_NAMES[case]
    assert found(*events, END) == expected


@pytest.mark.fault(15)
def test_arguments_stream_before_their_name_is_known() -> None:
    decoder = WIRE.decoder()
    shown: list[StreamEvent] = []
    for part in ('{"x":', "1", "}"):
        events = decoder.feed(body(calls(call(0, "a", None, part)), done=False))
        assert ToolInputDelta(0, part) in events
        shown += events
    assert sum(isinstance(event, ContentBlockStart) for event in shown) == 1


IDENTITIES: dict[str, tuple[list[dict[str, Any]], list[tuple[Any, ...]]]] = {
    "another id without a name continues the call": (
        [calls(call(0, "a", "f", "")), calls(call(0, "b", None, '{"x"')), calls(call(0, "c", None, ":1}"))],
        [("f", "a", '{"x":1}')],
    ),
    "another id without a name, without an index": (
        [calls(call(None, "a", "f", "")), calls(call(None, "b", None, "{}"))],
        [("f", "a", "{}")],
    ),
    "another id with a name is another call": (
        [calls(call(0, "a", "f", "{}")), calls(call(0, "b", "f", "{}"))],
        [("f", "a", "{}"), ("f", "b", "{}")],
    ),
    "another id with a name is another call, before any arguments": (
        [calls(call(0, "a", "f", "")), calls(call(0, "b", "g", "")), calls(call(0, None, None, "{}"))],
        [("f", "a", ""), ("g", "b", "{}")],
    ),
    "another id without a name cannot continue whole arguments": (
        [calls(call(0, "a", "f", "{}")), calls(call(0, "b", None, '{"y":2}')), calls(call(0, "b", "g"))],
        [("f", "a", "{}"), ("g", "b", '{"y":2}')],
    ),
    "one id at two indexes is two calls, with two ids": (
        [calls(call(0, "a", "f", '{"x"'), call(1, "a", "g", '{"y"')), calls(call(0, "a", None, ":1}"),
         call(1, "a", None, ":2}"))],
        [("f", "a", '{"x":1}'), ("g", OURS, '{"y":2}')],
    ),
    "an id at a new index without a name continues its call": (
        [calls(call(0, "a", "f", "")), calls(call(1, "a", None, "{")), calls(call(2, "a", None, "}"))],
        [("f", "a", "{}")],
    ),
    "ids at one index, in turn": (
        [
            calls(call(0, "a", "f", "{")),
            calls(call(0, "b", "g", "{")),
            calls(call(0, "a", "f", "}")),
            calls(call(0, "b", None, "}")),
        ],
        [("f", "a", "{}"), ("g", "b", "{}")],
    ),
    "empty ids at two indexes": (
        [
            calls(call(0, "", "f", "{"), call(1, "", "g", "{")),
            calls(call(0, "", "", "}"), call(1, "", "", "}")),
        ],
        [("f", OURS, "{}"), ("g", OURS, "{}")],
    ),
    "empty ids without indexes": (
        [calls(call(None, "", "f", "{}")), calls(call(None, "", "g", "")), calls(call(None, "", "", "{}"))],
        [("f", OURS, "{}"), ("g", OURS, "{}")],
    ),
    "a whole call said again is no other call": (
        [calls(call(0, "a", "f", '{"x"')), calls(call(0, "a", None, ":1}")), calls(call(0, "a", "f", '{"x":1}'))],
        [("f", "a", '{"x":1}')],
    ),
    "a whole call said again after a text": (
        [calls(call(0, "a", "f", "{}")), text("so"), calls(call(0, "a", "f", "{}"))],
        [("f", "a", "{}"), ("text", "so")],
    ),
    "one id, without an index, with other arguments": (
        [calls(call(None, "a", "f", '{"x":1}')), calls(call(None, "a", "f", '{"x":2}'))],
        [("f", "a", '{"x":1}'), ("f", OURS, '{"x":2}')],
    ),
}  # fmt: skip


@pytest.mark.fault(16)
@pytest.mark.parametrize("case", IDENTITIES)
def test_ids_follow_the_written_rule(case: str) -> None:
    events, expected = IDENTITIES[case]
    assert found(*events, END) == expected


SAID_TWICE: dict[str, tuple[list[dict[str, Any]], list[tuple[Any, ...]]]] = {
    "in each delta": (
        [chunk({**legacy("f", part), "tool_calls": [call(0, "a", "f", part)]}) for part in ('{"x"', ":1}")],
        [("f", "a", '{"x":1}')],
    ),
    "whole": (
        [chunk({**legacy("f", "{}"), "tool_calls": [call(None, "a", "f", "{}")]})],
        [("f", "a", "{}")],
    ),
    "in a delta of its own, afterwards": (
        [calls(call(0, "a", "f", "{}")), chunk(legacy("f", "{}"), "function_call")],
        [("f", "a", "{}")],
    ),
    "in a delta of its own, before": (
        [chunk(legacy("f", "{}")), calls(call(0, "a", "f", "{}"))],
        [("f", "a", "{}")],
    ),
    "its begin in a delta of its own": (
        [
            chunk(legacy("f", "")),
            chunk({**legacy(None, "{}"), "tool_calls": [call(0, "a", "f", "{}")]}),
        ],
        [("f", "a", "{}")],
    ),
    "beside two calls": (
        [chunk({**legacy("f", "{}"), "tool_calls": [call(0, "a", "f", "{}"), call(1, "b", "f", "{}")]})],
        [("f", "a", "{}"), ("f", "b", "{}")],
    ),
    "beside an empty list": (
        [chunk({**legacy("f", "{}"), "tool_calls": []})],
        [("f", OURS, "{}")],
    ),
    "another function, which is no repetition": (
        [calls(call(0, "a", "f", "{}")), chunk(legacy("g", '{"y"')), chunk(legacy(None, ":2}"))],
        [("f", "a", "{}"), ("g", OURS, '{"y":2}')],
    ),
}


@pytest.mark.fault(16)
@pytest.mark.parametrize("case", SAID_TWICE)
def test_a_call_that_is_said_twice_is_one_call(case: str) -> None:
    events, expected = SAID_TWICE[case]
    assert found(*events, END) == expected


@pytest.mark.fault(16)
@pytest.mark.parametrize("case", ["whole", "beside two calls"])
def test_a_plain_answer_with_a_call_said_twice_has_it_once(case: str) -> None:
    (event,), expected = SAID_TWICE[case]
    message = {"role": "assistant", "content": None, **event["choices"][0]["delta"]}
    answer = {"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    starts = [
        event.content or {}
        for event in WIRE.decode_answer(json.dumps(answer).encode())
        if isinstance(event, ContentBlockStart)
    ]
    assert [(start["tool_name"], start["tool_use_id"]) for start in starts] == [row[:2] for row in expected]


@pytest.mark.fault(16)
def test_a_history_with_a_call_said_twice_has_it_once() -> None:
    said = {
        "role": "assistant",
        **legacy("f", "{}"),
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    asked = {"model": "m", "messages": [{"role": "user", "content": "go"}, said]}
    request = WIRE.decode_request("/chat/completions", json.dumps(asked).encode())
    assert [(block.content or {})["tool_use_id"] for block in request.messages[1].blocks] == ["a"]


@pytest.mark.fault(16)
def test_other_arguments_for_a_call_that_has_ended_are_never_lost() -> None:
    decoder = WIRE.decoder()
    late = calls(call(0, "a", None, '{"y":2}'))
    decoder.feed(body(calls(call(0, "a", "f", "{}")), text("so"), late, done=False))
    with pytest.raises(MalformedEvent):
        decoder.close()


PIECES = {
    "letters": ('{"x":"', "abcdefgh", '"}'),
    "objects": ('{"x":[{}', ',{"y":{}}', "]}"),
    "brackets in strings": ('{"x":["{"', ',"{"}', '"]}'),
}


@pytest.mark.fault(16, 26)
@pytest.mark.parametrize("case", PIECES)
def test_arguments_with_id_and_name_in_each_fragment_are_linear(case: str) -> None:
    begin, middle, end = PIECES[case]

    def cost(count: int) -> float:
        sent = body(*[calls(call(0, "a", "f", part)) for part in (begin, *[middle] * count, end)], FINISH)
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            (block,) = decode_pieces(WIRE, [sent])["blocks"]
            best = min(best, time.process_time() - began)
        assert block["content"]["input_json"] == begin + middle * count + end
        return best

    gc.disable()  # what the process holds beside this would count, too
    try:
        short, long = cost(2000), cost(16_000)
    finally:
        gc.enable()
    assert long <= 12 * short, "8 times the input; were it quadratic, 64 times the time"


@pytest.mark.fault(16)
def test_a_bracket_in_a_string_hides_no_end() -> None:
    events = (calls(call(0, None, "f", '{"x":"{"}')), calls(call(0, None, "g", '{"x":"}"}')))
    assert found(*events, END) == [("f", OURS, '{"x":"{"}'), ("g", OURS, '{"x":"}"}')]
    events = (calls(call(0, "a", "f", '{"x":')), calls(call(0, "a", "f", '"{"}')), text("so"))
    assert found(*events, END) == [("f", "a", '{"x":"{"}'), ("text", "so")]


@pytest.mark.fault(15)
def test_a_legacy_call_is_an_answer_whatever_the_finish_reason() -> None:
    assert found(chunk(legacy(None, "{}")), chunk(legacy("f"), "a word that nobody knows")) == [
        ("f", OURS, "{}")
    ]
