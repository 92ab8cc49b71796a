"""Deltas for a block of another kind, or after its stop, damage no call and make no block. Anthropic and
Bedrock."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest

from turnstream.core.answers import fold_answer
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    StreamEvent,
    StreamNotice,
    TextDelta,
)
from turnstream.wires import WIRES
from turnstream.wires.recording import decode_pieces, recorded_body

pytestmark = pytest.mark.fault(21)
Event = dict[str, Any]

START = {"type": "message_start", "message": {"id": "m", "model": "x", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}}  # fmt: skip
TOOL = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
TEXT, THINKING = {"type": "text", "text": ""}, {"type": "thinking", "thinking": "", "signature": ""}
PING = {"type": "ping"}


def start(index: int, block: Event) -> Event:
    return {"type": "content_block_start", "index": index, "content_block": block}


def stop(index: int) -> Event:
    return {"type": "content_block_stop", "index": index}


def delta(index: int, kind: str, value: Any) -> Event:
    field = {"input_json_delta": "partial_json", "thinking_delta": "thinking", "signature_delta": "signature"}.get(kind, "text")  # fmt: skip
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, field: value}}


def text(value: str, index: int = 0) -> Event:
    return delta(index, "text_delta", value)


def written(value: str, index: int = 0) -> Event:
    return delta(index, "input_json_delta", value)


def thought(value: str, index: int = 0) -> Event:
    return delta(index, "thinking_delta", value)


def signed(value: str, index: int = 0) -> Event:
    return delta(index, "signature_delta", value)


def ends(reason: str = "end_turn") -> list[Event]:
    return [
        {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]


def body_of(wire: str, events: Sequence[Event]) -> bytes:
    lines = "\n".join(json.dumps(event) for event in events)
    return recorded_body(WIRES[wire], lines.encode(), file_name="x.jsonl")


def folded(wire: str, events: Sequence[Event]) -> tuple[Block, ...]:
    body = body_of(wire, events)
    decoder = WIRES[wire].decoder()
    answer = fold_answer([*decoder.feed(body), *decoder.close()])
    single = decode_pieces(WIRES[wire], [body[n : n + 1] for n in range(len(body))])
    assert single["blocks"] == decode_pieces(WIRES[wire], [body])["blocks"]
    return answer.blocks


def anthropic(*events: Event, reason: str = "end_turn") -> tuple[Block, ...]:
    return folded("anthropic", [START, *events, *ends(reason)])


def said(blocks: Sequence[Block]) -> list[tuple[Any, ...]]:
    """Return the type and text of each block, or a call's input."""
    return [
        (
            block.block_type,
            (block.content or {})["input"] if block.block_type == "tool_use" else block.text_content,
        )
        for block in blocks
    ]


# -- Anthropic
# -------------------------------------------------------------------------------------------------------

FOREIGN = {
    "tool": [text(""), text(" "), text("no"), thought(""), thought("no"), signed("")],
    "text": [written(""), written(" "), written("{"), thought(""), thought("no"), signed("")],
    "thinking": [text(""), text("no"), written(""), written("{}")],
}


@pytest.mark.parametrize(
    ("kind", "number"), [(kind, n) for kind, foreign in FOREIGN.items() for n in range(len(foreign))]
)
@pytest.mark.parametrize(
    "place",
    ["first", "within", "last", "after its stop", "after its stop and a ping", "after the next block"],
)
def test_a_delta_of_another_kind_means_nothing(kind: str, number: int, place: str) -> None:
    misplaced = FOREIGN[kind][number]
    block, own, expected = {
        "tool": (TOOL, [written('{"a":'), written("1}")], ("tool_use", {"a": 1})),
        "text": (TEXT, [text("Hel"), text("lo")], ("text", "Hello")),
        "thinking": (THINKING, [thought("Hm"), thought("m.")], ("thinking", "Hmm.")),
    }[kind]
    begin, first, second, end, other = (
        start(0, block),
        own[0],
        own[1],
        stop(0),
        [start(1, TEXT), text("Well.", 1), stop(1)],
    )
    events = {
        "first": [begin, misplaced, first, second, end, *other],
        "within": [begin, first, misplaced, second, end, *other],
        "last": [begin, first, second, misplaced, end, *other],
        "after its stop": [begin, first, second, end, misplaced, *other],
        "after its stop and a ping": [begin, first, second, end, PING, misplaced, *other],
        "after the next block": [begin, first, second, end, *other, misplaced],
    }[place]
    assert said(anthropic(*events, reason="tool_use")) == [expected, ("text", "Well.")]


@pytest.mark.parametrize("late", ["", " ", "\n"])
def test_a_late_fragment_of_arguments_tears_no_call(late: str) -> None:
    call = [start(0, TOOL), written('{"a":1}'), stop(0)]
    second = [start(1, {**TOOL, "id": "t2"}), written('{"b":2}', 1), stop(1)]
    expected = [("tool_use", {"a": 1}), ("tool_use", {"b": 2})]
    for events in (
        [*call, written(late), *second],
        [*call, *second, written(late)],
        [*call, *second, written(late, 1)],
    ):
        assert said(anthropic(*events, reason="tool_use")) == expected


def test_what_comes_after_a_stop_that_was_too_early_is_of_the_block() -> None:
    assert said(anthropic(start(0, TOOL), written('{"a":'), stop(0), written("1}"), reason="tool_use")) == [
        ("tool_use", {"a": 1})
    ]
    assert said(anthropic(start(0, TOOL), stop(0), written('{"a":1}'), reason="tool_use")) == [
        ("tool_use", {"a": 1})
    ]
    assert said(anthropic(start(0, TEXT), text("Hel"), stop(0), text("lo"))) == [("text", "Hello")]
    (block,) = anthropic(start(0, THINKING), thought("Hm."), stop(0), signed("si"), PING, signed("g"))
    assert (block.text_content, block.content) == ("Hm.", {"signature": "sig"})


def test_a_late_signature_makes_no_second_thinking_block() -> None:
    whole = [start(0, THINKING), thought("Hm."), signed("sig"), stop(0)]
    for late in (signed(""), signed("again"), thought("")):
        blocks = anthropic(*whole, start(1, TEXT), text("Hi.", 1), late, stop(1))
        assert said(blocks) == [("thinking", "Hm."), ("text", "Hi.")]
        assert blocks[0].content == {"signature": "sig"}


def test_late_text_is_not_lost_and_what_is_left_out_is_told() -> None:
    events = [start(0, TEXT), text("One."), stop(0), start(1, TOOL), written("{}", 1), stop(1), text("Two.")]
    blocks = anthropic(*events, reason="tool_use")
    assert "".join(block.text_content or "" for block in blocks if block.block_type == "text") == "One.Two."
    decoder = WIRES["anthropic"].decoder()
    found = decoder.feed(
        body_of("anthropic", [START, start(0, TOOL), text("lost"), text(" "), written("{}"), stop(0)])
    )
    assert [event.code for event in found if isinstance(event, StreamNotice)] == ["misplaced_delta"]


def test_a_stop_waits_for_no_longer_than_the_next_event() -> None:
    def after(*events: Event) -> list[StreamEvent]:
        return WIRES["anthropic"].decoder().feed(body_of("anthropic", [START, *events]))

    block = [start(0, TEXT), text("a"), stop(0)]
    assert ContentBlockStop(0) not in after(*block)
    for following in (
        start(1, TEXT),
        {"type": "message_delta", "delta": {}},
        {"type": "error", "error": {}},
        text("b", 1),
        {"type": "new"},
    ):
        assert ContentBlockStop(0) in after(*block, following)
    searching = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    assert ContentBlockStop(0) in after(start(0, searching), stop(0)), (
        "what the provider runs is shown at once"
    )
    decoder = WIRES["anthropic"].decoder(on_malformed="skip")
    broken = {"type": "content_block_start", "index": "one", "content_block": TEXT}
    assert ContentBlockStop(0) in decoder.feed(body_of("anthropic", [START, *block, broken]))


@pytest.mark.parametrize("order", list(itertools.permutations([0, 1, 2])))
def test_blocks_that_interleave_stay_whole(order: tuple[int, ...]) -> None:
    begin = [start(0, THINKING), start(1, TEXT), start(2, TOOL)]
    pieces = [
        [thought("a"), thought("b")],
        [text("c", 1), text("d", 1)],
        [written('{"a":', 2), written("1}", 2)],
    ]
    events = [
        *begin,
        *(pieces[n][0] for n in order),
        *(pieces[n][1] for n in reversed(order)),
        *map(stop, order),
    ]
    assert said(anthropic(*events, reason="tool_use")) == [
        ("thinking", "ab"),
        ("text", "cd"),
        ("tool_use", {"a": 1}),
    ]


def test_blocks_without_a_start_begin_with_their_deltas() -> None:
    blocks = anthropic(thought("Hm."), stop(0), text("a", 1), text("b", 1), stop(1))
    assert said(blocks) == [("thinking", "Hm."), ("text", "ab")]


# -- Bedrock
# ---------------------------------------------------------------------------------------------------------


def call_start(index: int = 0) -> Event:
    return {
        "contentBlockStart": {
            "contentBlockIndex": index,
            "start": {"toolUse": {"toolUseId": f"t{index}", "name": "f"}},
        }
    }


def piece(index: int = 0, **delta: Any) -> Event:
    return {"contentBlockDelta": {"contentBlockIndex": index, "delta": delta}}


def arguments(value: str, index: int = 0) -> Event:
    return piece(index, toolUse={"input": value})


def block_stop(index: int = 0) -> Event:
    return {"contentBlockStop": {"contentBlockIndex": index}}


def bedrock(*events: Event, reason: str = "end_turn") -> tuple[Block, ...]:
    begin, end = {"messageStart": {"role": "assistant"}}, {"messageStop": {"stopReason": reason}}
    return folded("bedrock", [begin, *events, end])


NOTHING = [piece(text=""), piece(reasoningContent={"text": ""}), piece(reasoningContent={"signature": ""}), piece(toolUse={"input": ""}), piece(toolUse={"input": " "}), piece(toolUse={})]  # fmt: skip


@pytest.mark.parametrize("number", range(len(NOTHING)))
@pytest.mark.parametrize("place", ["first", "within", "last", "after its stop", "after the next block"])
@pytest.mark.parametrize("kind", ["tool_use", "text", "thinking"])
def test_an_empty_delta_means_nothing(kind: str, place: str, number: int) -> None:
    misplaced = NOTHING[number]
    begin, own, expected = {
        "tool_use": ([call_start()], [arguments('{"a":'), arguments("1}")], ("tool_use", {"a": 1})),
        "text": ([], [piece(text="Hel"), piece(text="lo")], ("text", "Hello")),
        "thinking": (
            [],
            [piece(reasoningContent={"text": "H"}), piece(reasoningContent={"text": "m"})],
            ("thinking", "Hm"),
        ),
    }[kind]
    other = [piece(1, text="Well."), block_stop(1)]
    events = {
        "first": [
            *begin,
            *([own[0]] if not begin else []),
            misplaced,
            *(own[1:] if not begin else own),
            block_stop(),
            *other,
        ],
        "within": [*begin, own[0], misplaced, own[1], block_stop(), *other],
        "last": [*begin, *own, misplaced, block_stop(), *other],
        "after its stop": [*begin, *own, block_stop(), misplaced, *other],
        "after the next block": [*begin, *own, block_stop(), *other, misplaced],
    }[place]
    assert said(bedrock(*events, reason="tool_use")) == [expected, ("text", "Well.")]


def test_text_within_a_call_tears_nothing() -> None:
    for misplaced in (
        piece(text="no"),
        piece(reasoningContent={"text": "no"}),
        piece(reasoningContent={"signature": "no"}),
    ):
        events = [call_start(), arguments('{"a":'), misplaced, arguments("1}"), block_stop()]
        assert said(bedrock(*events, reason="tool_use")) == [("tool_use", {"a": 1})]


def test_a_late_piece_is_of_the_block_that_stopped() -> None:
    assert said(
        bedrock(call_start(), arguments('{"a":'), block_stop(), arguments("1}"), reason="tool_use")
    ) == [("tool_use", {"a": 1})]
    assert said(bedrock(piece(text="Hel"), block_stop(), piece(text="lo"))) == [("text", "Hello")]
    (block,) = bedrock(
        piece(reasoningContent={"text": "Hm"}), block_stop(), piece(reasoningContent={"signature": "sig"})
    )
    assert (block.text_content, block.content) == ("Hm", {"signature": "sig"})


def test_a_signature_after_another_block_makes_no_second_thinking_block() -> None:
    thinking = [
        piece(reasoningContent={"text": "Hm"}),
        piece(reasoningContent={"signature": "sig"}),
        block_stop(),
    ]
    blocks = bedrock(
        *thinking, piece(1, text="Hi."), piece(0, reasoningContent={"signature": "late"}), block_stop(1)
    )
    assert said(blocks) == [("thinking", "Hm"), ("text", "Hi.")]
    assert blocks[0].content == {"signature": "sig"}


def test_blocks_that_all_have_one_index_stay_apart() -> None:
    events = [
        piece(reasoningContent={"text": "Hm"}),
        block_stop(),
        piece(text="Hi."),
        block_stop(),
        call_start(),
        arguments("{}"),
        block_stop(),
    ]
    assert said(bedrock(*events, reason="tool_use")) == [
        ("thinking", "Hm"),
        ("text", "Hi."),
        ("tool_use", {}),
    ]


def test_an_exception_comes_after_the_stop_that_waited() -> None:
    decoder = WIRES["bedrock"].decoder()
    events = decoder.feed(
        body_of("bedrock", [{"messageStart": {"role": "assistant"}}, piece(text="Hi."), block_stop()])
    )
    assert events[-2:] == [ContentBlockStart(0, "text"), TextDelta(0, "Hi.")]
    rest = decoder.feed(body_of("bedrock", [{"throttlingException": {"message": "slow"}}]))
    assert rest[0] == ContentBlockStop(0)
