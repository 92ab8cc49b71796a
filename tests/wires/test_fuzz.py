"""No input hangs a decoder, exhausts memory or raises outside of the hierarchy of errors."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections import deque
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wires.any_events import EVENTS, LOOSE, gemini_events, items, raw_lines, said
from tests.wires.any_json import json_values, scalars
from turnstream.core import stream_events as say
from turnstream.core.accumulator import Accumulator
from turnstream.errors import TurnstreamError
from turnstream.wires import WIRES
from turnstream.wires.base import Wire
from turnstream.wires.recording import decode_pieces, frame_line
from turnstream.wires.shared.think_tags import ThinkTagDecoder

EXAMPLES = 120
every_wire = pytest.mark.parametrize("wire", WIRES.values(), ids=lambda wire: wire.name)

PATHS = {"bedrock": "/model/m/converse-stream"}


def bodies(wire: Wire) -> st.SearchStrategy[bytes]:
    framed = (EVENTS[wire.name] | json_values).map(lambda value: frame_line(wire, json.dumps(value).encode()))
    raw = (raw_lines | st.sampled_from(LOOSE)).map(lambda line: line + b"\n")
    mark = st.sampled_from([b"", b"", b"", b"\xef\xbb\xbf", b"\n"])
    whole = st.builds(lambda begin, lines: begin + b"".join(lines), mark, st.lists(framed | raw, max_size=8))
    return whole | arrays() if wire.name == "gemini" else whole


def arrays() -> st.SearchStrategy[bytes]:
    """Gemini's other framing: one JSON array, indented or not, with what does not belong into it."""
    elements = st.lists(gemini_events | json_values, max_size=6)
    indented = st.builds(
        lambda value, indent: json.dumps(value, indent=indent).encode(), elements, st.sampled_from([None, 2])
    )
    foreign = st.sampled_from([b"", b"]", b"\n,x\n", b'"', b"}", b"{", b"\n}"])
    return st.builds(lambda before, array, after: before + array + after + array, foreign, indented, foreign)


@every_wire
@pytest.mark.requirement("E4", "E6")
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_any_body_ends_in_our_own_words(wire: Wire, data: st.DataObject) -> None:
    body = data.draw(bodies(wire))
    for on_malformed in ("fail", "skip"):
        fold(wire.decoder(event_limit=400, on_malformed=on_malformed), body, data.draw(st.integers(1, 40)))
    fold(ThinkTagDecoder(wire.decoder()), body, 7)
    whole = decode_pieces(wire, [body])
    json.dumps(whole)
    size = data.draw(st.integers(1, 9))
    assert decode_pieces(wire, [body[at : at + size] for at in range(0, len(body), size)]) == whole


@every_wire
@pytest.mark.requirement("E4", "E6")
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_any_damage_to_a_sound_answer_ends_in_our_own_words(wire: Wire, data: st.DataObject) -> None:
    body = bytearray(sound_body(wire))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(body) - 1))
        length = data.draw(st.integers(0, 30))
        body[start : start + length] = data.draw(st.binary(max_size=8))
        body += b"\n"
    fold(wire.decoder(on_malformed="skip"), bytes(body), 11)
    decode_pieces(wire, [bytes(body)])


@every_wire
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_any_request_and_error_ends_in_our_own_words(wire: Wire, data: st.DataObject) -> None:
    request = st.fixed_dictionaries(
        {
            "model": scalars,
            "messages": st.lists(said | json_values, max_size=3),
            "input": st.lists(items | said | json_values, max_size=3) | scalars,
        },
        optional={"tools": json_values, "system": json_values, "options": json_values, "stop": json_values},
    )
    body = data.draw(
        st.binary(max_size=30) | (json_values | request).map(lambda value: json.dumps(value).encode())
    )
    try:
        wire.encode_request(wire.decode_request(PATHS.get(wire.name, "/"), body))
    except TurnstreamError:
        pass
    error = wire.decode_error(
        data.draw(st.integers(300, 599)), {"retry-after": data.draw(st.text(max_size=4))}, body
    )
    assert isinstance(error, TurnstreamError)
    wire.encode_error(error)


@every_wire
@pytest.mark.requirement("E4", "E6", "O2")
def test_nesting_and_endless_lines_are_refused(wire: Wire) -> None:
    for nested in (b"[" * 200_000, b'{"message":' * 100_000, b'{"choices":[{"delta":{"content":' * 50_000):
        decode_pieces(wire, [frame_line(wire, nested)])
        decode_pieces(wire, [frame_line(wire, nested + b"]" * 200_000)])
    tracemalloc.start()
    try:
        decoder = wire.decoder(event_limit=100_000)
        endless = itertools.chain([endless_event(wire)], itertools.repeat(b"x" * 10_000, 10_000))
        with pytest.raises(TurnstreamError) as refused:
            deque(map(decoder.feed, endless), maxlen=0)
        assert refused.value.code == "event_too_large"
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def endless_event(wire: Wire) -> bytes:
    """The begin of an event that never ends."""
    if wire.name == "bedrock":
        lengths = (100_000_000).to_bytes(4) + bytes(4)
        return lengths + crc32(lengths).to_bytes(4)
    return b"data: "


def fold(decoder: Any, body: bytes, size: int) -> None:
    """Decode and fold as the executor does; anything but our own errors fails the test."""
    accumulator = Accumulator()
    try:
        for at in range(0, len(body), size):
            take(accumulator, decoder.feed(body[at : at + size]))
        take(accumulator, decoder.close())
        accumulator.end()
    except TurnstreamError:
        pass
    accumulator.cut()


def take(accumulator: Accumulator, events: list[Any]) -> None:
    position = 0
    while True:
        position = accumulator.fold(events, position)
        accumulator.take_changes()
        if accumulator.finished is None:
            return
        accumulator.release()


def sound_body(wire: Wire) -> bytes:
    """An answer with thinking, text and a call."""
    encoder = wire.encoder(model="m", message_id="i")
    events = [
        say.MessageStart("i", "m"),
        say.ContentBlockStart(0, "thinking"),
        say.ThinkingDelta(0, "hm 😀"),
        say.ContentBlockStop(0),
        say.ContentBlockStart(1, "text"),
        say.TextDelta(1, "one "),
        say.TextDelta(1, "two"),
        say.ContentBlockStop(1),
        say.ContentBlockStart(2, "tool_use", {"tool_use_id": "t", "tool_name": "f"}),
        say.ToolInputDelta(2, '{"a":[1,2]}'),
        say.ContentBlockStop(2),
        say.MessageStop("tool_use"),
    ]
    return encoder.feed(events) + encoder.close()
