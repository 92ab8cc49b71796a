"""Calls of Gemini's stream, with and without ids, whole and in pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wires.gemini.streams import (
    arg,
    blocks_of,
    call,
    chunk,
    decode,
    end,
    json_leaves,
    message_of,
    pieces,
    sse,
)
from turnstream.core.stream_events import (
    StreamNotice,
    ToolInputDelta,
)
from turnstream.errors import MalformedEvent
from turnstream.wires.gemini.arguments import parse_path
from turnstream.wires.gemini.wire import WIRE
from turnstream.wires.recording import decode_pieces

# --- calls --------------------------------------------------------------------------------------------------


@pytest.mark.requirement("E2", "E3", "G2")
def test_parallel_calls_with_and_without_ids() -> None:
    body = [
        chunk(call("f", {"a": 1}), call("f", {"a": 1}), call("g", None, id="x")),
        end(call("g", {}, id="x")),
    ]
    found = message_of(*body)
    calls = [block["content"] for block in found["blocks"]]
    assert [(c["tool_name"], c["input"]) for c in calls] == [
        ("f", {"a": 1}),
        ("f", {"a": 1}),
        ("g", {}),
        ("g", {}),
    ]
    assert len({c["tool_use_id"] for c in calls}) == 4
    assert calls[2]["tool_use_id"] == "x"
    assert (found["stop_reason"], found["raw_stop_reason"]) == ("tool_use", "STOP")
    assert [c["tool_use_id"] for c in calls] == [
        b["content"]["tool_use_id"] for b in message_of(*body)["blocks"]
    ]
    others = message_of(*[{**value, "responseId": "r2"} for value in body])["blocks"]
    assert calls[0]["tool_use_id"] != others[0]["content"]["tool_use_id"]


@pytest.mark.requirement("B4")
def test_a_signature_stays_with_its_call() -> None:
    body = chunk({**call("f", {}), "thoughtSignature": "c2ln"}, call("g", {}))
    first, second = (block[2] for block in blocks_of(body, end({"text": ""})))
    assert first["provider_metadata"] == {"thoughtSignature": "c2ln"}
    assert "provider_metadata" not in second


@pytest.mark.requirement("B4", "E2")
@pytest.mark.parametrize("last", [pieces(more=False), None, {"functionCall": {"name": "other", "args": {}}}])
def test_arguments_in_pieces_grow_as_they_come(last: dict[str, Any] | None) -> None:
    body = sse(
        chunk(pieces(name="f", id="i")),
        chunk(pieces(arg("$.city", "Pa", more=True))),
        chunk(pieces(arg("$.city", 'ris "é"\n', more=True))),
        chunk(pieces(arg("$.city", ""), arg("$.days[0].n", 1))),
        chunk(pieces(arg("$.days[0].ok", True), arg("$.days[1]", None))),
        chunk(pieces(arg("$['two words'].x", 0.5))),
        *([] if last is None else [chunk(last)]),
        end({"text": ""}),
    )
    deltas = [
        event.partial_json for event in decode(body) if isinstance(event, ToolInputDelta) and event.index == 0
    ]
    assert deltas == [
        '{"city":"Pa',
        'ris \\"é\\"\\n',
        '","days":[{"n":1',
        ',"ok":true},null',
        '],"two words":{"x":0.5',
        "}}",
    ]
    content = decode_pieces(WIRE, [body])["blocks"][0]["content"]
    assert content["tool_use_id"] == "i"
    assert content["input"] == {
        "city": 'Paris "é"\n',
        "days": [{"n": 1, "ok": True}, None],
        "two words": {"x": 0.5},
    }


@pytest.mark.requirement("B4")
@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([arg("$.a.x", 1), arg("$.b", 2), arg("$.a.y", 3)], {"a": {"x": 1, "y": 3}, "b": 2}),
        ([arg("$.a", 1), arg("$.a", 2)], {"a": 2}),
        ([arg("$.a", "x"), arg("$.b", "y"), arg("$.a", "z")], {"a": "z", "b": "y"}),
        ([arg("$.a[2]", 1)], {"a": [None, None, 1]}),
        ([arg("$.a[0].b", 1), arg("$.a[2].b", 2)], {"a": [{"b": 1}, None, {"b": 2}]}),
        ([arg("$.a[1]", 1), arg("$.a[0]", 2)], {"a": [2, 1]}),
        ([arg("$.a.b", 1), arg("$.a", 2), arg("$.c", "s", more=True), arg("$.c", "t")], {"a": 2, "c": "st"}),
        ([arg("$.a", "x", more=True), arg("$.b", 1)], {"a": "x", "b": 1}),
        ([arg('$["a\\"b"].c', 1)], {'a"b': {"c": 1}}),
        ([{"jsonPath": "$.a"}], {}),
        ([arg("$.a", "x", more=True), {"jsonPath": "$.a"}, arg("$.b", 1)], {"a": "x", "b": 1}),
    ],
)
def test_pieces_in_any_order(arguments: list[dict[str, Any]], found: Any) -> None:
    whole = blocks_of(chunk(pieces(*arguments, more=False, name="f")), end({"text": ""}))
    assert whole[0][2]["input"] == found
    parts = [chunk(pieces(argument)) for argument in arguments]
    apart = blocks_of(chunk(pieces(name="f")), *parts, end({"text": "done"}))
    assert apart[0][2]["input"] == found
    assert apart[1][:2] == ("text", "done")


json_names = st.text(min_size=1, max_size=4)

json_trees = st.dictionaries(
    json_names,
    st.recursive(
        json_leaves,
        lambda inner: (
            st.lists(inner, min_size=1, max_size=3)
            | st.dictionaries(json_names, inner, min_size=1, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    "late", [{"name": "f", "willContinue": True}, {"name": "f", "partialArgs": [arg("$.y", 2)]}]
)
def test_a_name_may_come_after_the_first_piece(late: dict[str, Any]) -> None:
    first = {"functionCall": {"partialArgs": [arg("$.x", 1)], "willContinue": True}}
    folded = decode_pieces(WIRE, [sse(chunk(first), end({"functionCall": late}))])
    (block,) = folded["blocks"]
    assert block["content"]["tool_name"] == "f"
    assert block["content"]["input"]["x"] == 1


def leaves(value: Any, path: str = "$") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, f"{path}[{json.dumps(key)}]")]
    if isinstance(value, list):
        return [leaf for n, item in enumerate(value) for leaf in leaves(item, f"{path}[{n}]")]
    return [(path, value)]


@settings(max_examples=80, deadline=None)
@given(tree=json_trees, draw=st.data())
@pytest.mark.requirement("B4")
def test_any_arguments_come_whole_out_of_any_pieces(tree: dict[str, Any], draw: st.DataObject) -> None:
    told = leaves(tree)
    if draw.draw(st.booleans()):
        told = draw.draw(st.permutations(told))
    arguments: list[dict[str, Any]] = []
    for path, value in told:
        if isinstance(value, str):
            cut = draw.draw(st.integers(0, len(value)))
            arguments += [arg(path, value[:cut], more=True), arg(path, value[cut:])]
        else:
            arguments.append(arg(path, value))
    body = sse(chunk(pieces(name="f")), *(chunk(pieces(item)) for item in arguments), end({"text": ""}))
    content = decode_pieces(WIRE, [body])["blocks"][0]["content"]
    assert content["input"] == tree, content["input_json"]


@pytest.mark.requirement("E6")
@pytest.mark.parametrize(
    "argument",
    [
        {},
        {"jsonPath": 1},
        arg("a", 1),
        arg("$", 1),
        arg("$[0]", 1),
        arg("$.a[99999]", 1),
        arg("$.a..b", 1),
        arg("$" + ".a" * 101, 1),
    ],
)
def test_pieces_that_are_none(argument: dict[str, Any]) -> None:
    body = sse(chunk(pieces(argument, name="f")), end({"text": "x"}))
    with pytest.raises(MalformedEvent):
        decode(body)
    assert any(isinstance(event, StreamNotice) for event in decode(body, on_malformed="skip"))


def test_paths() -> None:
    assert parse_path('$.a[0][\'b c\']["d\\"e"]') == ["a", 0, "b c", 'd"e']
