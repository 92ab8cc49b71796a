"""A second answer before the first has ended is an error. Events after the end are a notice, and no part of
the answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.corpus.recordings import single_bytes
from tests.wires.stream_samples import (
    ENDS,
    RESPONSE,
    SAID,
    SAMPLES,
    bedrock,
    chat,
    frame,
    frames,
    lines,
    responses,
)
from turnstream.core.stream_events import (
    MessageStop,
    Metadata,
    StreamError,
    StreamEvent,
    StreamNotice,
    TextDelta,
)
from turnstream.errors import MalformedEvent
from turnstream.wires import WIRES
from turnstream.wires.recording import decode_pieces
from turnstream.wires.shared.event_stream import encode_exception, frame_line

pytestmark = pytest.mark.fault(22)

GOOD = {"gemini": "STOP", "openai-chat": "stop", "ollama": "stop"}
LATE_WIRES = ["anthropic", "openai-chat", "openai-responses", "bedrock", "ollama"]
"""Wires with an end marker. Gemini has none: its answer ends with its body."""
END = {wire: ENDS[wire](GOOD.get(wire, "end_turn")) for wire in LATE_WIRES} | {
    "openai-responses": SAMPLES["openai-responses"].end
}
ERROR = {"error": {"type": "api_error", "message": "late", "code": 500}}
MORE: dict[str, list[bytes]] = {
    "anthropic": [
        SAMPLES["anthropic"].text + SAMPLES["anthropic"].end,
        SAMPLES["anthropic"].call,
        frame({"type": "error", **ERROR}),
        b"error: late\n\n",
    ],
    "openai-chat": [frame(chat({"content": "more"})), frame(ERROR), b"data: broken\n\n", b"error: late\n\n"],
    "openai-responses": [
        SAMPLES["openai-responses"].text + SAMPLES["openai-responses"].end,
        frame({"type": "error", "message": "late", "code": "x"}),
        b"error: late\n\n",
    ],
    "bedrock": [
        SAID["bedrock"] + ENDS["bedrock"]("end_turn"),
        bedrock({"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "more"}}}),
        encode_exception("internalServerException", b'{"message": "late"}'),
    ],
    "ollama": [SAID["ollama"], lines({"error": "late"}), b"error: late\n"],
}


def events_of(wire: str, data: bytes) -> list[StreamEvent]:
    decoder = WIRES[wire].decoder()
    return [*decoder.feed(data), *decoder.close()]


@pytest.mark.parametrize(("wire", "more"), [(wire, more) for wire in LATE_WIRES for more in MORE[wire]])
def test_what_follows_the_end_is_one_notice(wire: str, more: bytes) -> None:
    whole = SAID[wire] + END[wire]
    right = decode_pieces(WIRES[wire], [whole])
    assert right["complete"]
    late = decode_pieces(WIRES[wire], [whole + more + more])
    in_bytes = decode_pieces(WIRES[wire], single_bytes(whole + more + more))
    assert {**late, "events": 0} == {**right, "events": 0} == {**in_bytes, "events": 0}
    events = events_of(wire, whole + more + more)
    stop = next(place for place, event in enumerate(events) if isinstance(event, MessageStop))
    notices = [event.code for event in events[stop:] if isinstance(event, StreamNotice)]
    assert notices == ["after_end"]
    assert {type(event) for event in events[stop + 1 :]} <= {StreamNotice, Metadata}


@pytest.mark.parametrize("wire", LATE_WIRES)
def test_signs_of_life_after_the_end_are_no_news(wire: str) -> None:
    silent = {
        "anthropic": b'event: ping\ndata: {"type": "ping"}\n\ndata: [DONE]\n\n: bye\n\n',
        "openai-chat": b"data: [DONE]\n\n: bye\n\n" + frame({"choices": [], "usage": {"prompt_tokens": 1}}),
        "openai-responses": b'data: {"type": "keepalive"}\n\ndata: [DONE]\n\n',
        "bedrock": bedrock({"metadata": {"usage": {"inputTokens": 1}}}),
        "ollama": lines({"eval_count": 5}) + b"\n",
    }
    events = events_of(wire, SAID[wire] + END[wire] + silent[wire])
    assert not [event for event in events if isinstance(event, StreamNotice)]


def test_usage_of_another_message_is_not_this_ones() -> None:
    first = SAMPLES["anthropic"].text + frames(
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    )
    second = first.replace(b'"output_tokens": 2', b'"output_tokens": 99').replace(b'"m1"', b'"m2"')
    decoded = decode_pieces(WIRES["anthropic"], [first + second])
    assert decoded["usage"]["output_tokens"] == 2
    assert decoded["id"] == "m1"


def start(identity: str) -> dict[str, Any]:
    return {
        "type": "message_start",
        "message": {"id": identity, "role": "assistant", "model": "m", "content": []},
    }


SECOND: dict[str, bytes] = {
    "anthropic": frame(start("m2")),
    "openai-responses": frame(
        responses("created", response={**RESPONSE, "id": "r2", "status": "in_progress"})
    ),
    "bedrock": bedrock({"messageStart": {"role": "assistant"}}),
}


@pytest.mark.parametrize("wire", SECOND)
@pytest.mark.parametrize("on_malformed", ["fail", "skip"])
def test_a_second_answer_in_an_open_one_is_an_error(wire: str, on_malformed: Any) -> None:
    decoder = WIRES[wire].decoder(on_malformed=on_malformed)
    shown = decoder.feed(SAID[wire] + SECOND[wire] + SAID[wire] + END[wire])
    assert [event.text for event in shown if isinstance(event, TextDelta)] == ["Half an ans"]
    with pytest.raises(MalformedEvent, match="second"):
        decoder.feed(b"")
    decoded = decode_pieces(WIRES[wire], [SAID[wire] + SECOND[wire] + SAID[wire] + END[wire]])
    assert decoded["complete"] is False


def test_the_same_message_cannot_begin_again_in_its_middle() -> None:
    """A gateway that starts again under the same id would double the text."""
    data = SAMPLES["anthropic"].text
    decoded = decode_pieces(WIRES["anthropic"], [data + data + SAMPLES["anthropic"].end])
    assert decoded["complete"] is False
    assert decoded["blocks"][0]["text_content"] == "Half an ans"


@pytest.mark.parametrize("wire", SECOND)
def test_a_begin_that_is_repeated_before_anything_was_said_is_none(wire: str) -> None:
    begin = {
        "anthropic": frame(start("m1")),
        "openai-responses": frame(responses("created", response={**RESPONSE, "status": "in_progress"})),
        "bedrock": SECOND["bedrock"],
    }
    decoded = decode_pieces(
        WIRES[wire], [begin[wire] + begin[wire] + SAID[wire].removeprefix(begin[wire]) + END[wire]]
    )
    assert decoded["complete"], decoded["error"]
    assert decoded["blocks"][0]["text_content"] == "Half an ans"


def test_copilot_may_rename_its_response() -> None:
    renamed = SAMPLES["openai-responses"].end.replace(b'"r1"', b'"r2"')
    data = SAMPLES["openai-responses"].text + frame(
        responses("in_progress", response={**RESPONSE, "id": "r3", "status": "in_progress"})
    )
    assert decode_pieces(WIRES["openai-responses"], [data + renamed])["complete"]


@pytest.mark.parametrize("wire", LATE_WIRES)
def test_nothing_follows_an_error(wire: str) -> None:
    failed = {
        "bedrock": encode_exception("internalServerException", b'{"message": "no"}'),
        "ollama": lines({"error": "no"}),
    }.get(wire, frame({"type": "error", **ERROR}))
    events = events_of(wire, SAID[wire] + failed + MORE[wire][0] + END[wire])
    assert isinstance(events[-1], StreamError)
    assert not [event for event in events if isinstance(event, StreamNotice | MessageStop)]


def test_claude_on_bedrock_ends_alike() -> None:
    """Its events come inside of Bedrock's."""
    events = [
        event
        for identity in ("m1", "m2")
        for event in (
            start(identity),
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": identity}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
            {"type": "message_stop"},
        )
    ]
    body = b"".join(frame_line(json.dumps(event).encode()) for event in events)
    decoded = decode_pieces(WIRES["bedrock"], [body])
    assert decoded["complete"]
    assert [block["text_content"] for block in decoded["blocks"]] == ["m1"]
