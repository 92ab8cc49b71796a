"""The binary event stream: valid, damaged and too large messages."""

from __future__ import annotations

import random
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnstream.core.stream_events import MessageStop, StreamNotice, TextDelta
from turnstream.errors import EventTooLarge, MalformedEvent, StreamIncomplete
from turnstream.wires import WIRES
from turnstream.wires.shared.event_stream import (
    BrokenMessage,
    MessageDecoder,
    encode_event,
    encode_exception,
    encode_message,
    frame_line,
    split_messages,
)

WIRE: Any = WIRES["bedrock"]


messages = st.lists(
    st.tuples(
        st.dictionaries(st.text(min_size=1, max_size=9), st.text(max_size=9), max_size=3),
        st.binary(max_size=40),
    ),
    max_size=5,
)


def taken(decoder: MessageDecoder, pieces: list[bytes]) -> list[tuple[dict[str, str], bytes]]:
    found = []
    for piece in pieces:
        decoder.add(piece)
        found += iter(decoder.take, None)
    return found


def prelude(size: int, headers: int = 0) -> bytes:
    lengths = size.to_bytes(4) + headers.to_bytes(4)
    return lengths + crc32(lengths).to_bytes(4)


def text(words: str) -> bytes:
    return frame_line(b'{"contentBlockDelta":{"contentBlockIndex":0,"delta":{"text":"%b"}}}' % words.encode())


STOP = frame_line(b'{"messageStop":{"stopReason":"end_turn"}}')


@pytest.mark.requirement("E4")
@settings(max_examples=60, deadline=None)
@given(sent=messages, size=st.integers(1, 30))
def test_what_is_encoded_is_taken_whatever_the_cut(sent, size):
    body = b"".join(encode_message(headers, payload) for headers, payload in sent)
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    assert taken(MessageDecoder(limit=10_000), pieces) == sent
    assert b"".join(split_messages(body)) == body
    assert len(list(split_messages(body))) == len(sent)
    assert b"".join(split_messages(body[:-1])) == body[:-1]


@pytest.mark.requirement("E6")
def test_damage_costs_one_message():
    decoder = MessageDecoder(limit=1000)
    for place in (13, 60, -1):
        damaged = bytearray(text("lost"))
        damaged[place] ^= 4
        decoder.add(bytes(damaged) + text("kept"))
        with pytest.raises(BrokenMessage):
            decoder.take()
        assert (decoder.take() or ({}, b""))[1].find(b"kept") > 0
        assert decoder.take() is None


@pytest.mark.requirement("E6")
@pytest.mark.parametrize(
    "begin",
    [
        b"data: {}\n\n....",
        prelude(16)[:-1] + b"\x00",
        prelude(0),
        prelude(15),
        prelude(40, 30),
        b"\xff" * 12,
    ],
)
def test_what_is_no_prelude_is_refused_at_once_and_for_ever(begin):
    decoder = MessageDecoder(limit=1000)
    decoder.add(begin)
    for _ in range(2):
        with pytest.raises(MalformedEvent) as refused:
            decoder.take()
        assert not isinstance(refused.value, BrokenMessage)
        decoder.add(text("late"))


@pytest.mark.requirement("E4")
@pytest.mark.parametrize("size", [1001, 24 * 1024 * 1024 + 17, 2**32 - 1])
def test_a_message_that_announces_too_much_is_refused_before_it_comes(size):
    for limit in (1000, 2**40) if size > 2000 else (1000,):
        decoder = MessageDecoder(limit=limit)
        decoder.add(prelude(size))
        with pytest.raises(EventTooLarge) as refused:
            decoder.take()
        assert not refused.value.retryable
    decoder = MessageDecoder(limit=1000)
    decoder.add(prelude(200_000, 150_000))
    with pytest.raises(EventTooLarge):
        decoder.take()


def test_a_message_at_the_limit_is_taken():
    message = encode_event("x", b"y" * 500)
    assert len(taken(MessageDecoder(limit=len(message)), [message])) == 1
    with pytest.raises(EventTooLarge):
        taken(MessageDecoder(limit=len(message) - 1), [message])


@pytest.mark.requirement("E6")
def test_headers_that_cannot_be_read():
    for head in (b"\x05ab", b"\x01a\x63", b"\x01a\x07\x00\x01\xff", b"\x01a\x04\x00", b"\x01a\x00\x01a\x00"):
        lengths = (16 + len(head)).to_bytes(4) + len(head).to_bytes(4)
        begun = lengths + crc32(lengths).to_bytes(4) + head
        decoder = MessageDecoder(limit=1000)
        decoder.add(begun + crc32(begun).to_bytes(4) + text("kept"))
        try:
            decoder.take()
        except BrokenMessage:
            pass
        assert b"kept" in (decoder.take() or ({}, b""))[1]


@pytest.mark.requirement("E6")
def test_a_damaged_message_fails_the_answer_or_is_skipped():
    damaged = text("x")[:-1] + b"\0"
    body = text("a") + damaged + text("b") + STOP
    decoder = WIRE.decoder()
    assert TextDelta(0, "a") in decoder.feed(body)
    for call in (lambda: decoder.feed(b""), decoder.close):
        with pytest.raises(MalformedEvent):
            call()
    decoder = WIRE.decoder(on_malformed="skip")
    events = [*decoder.feed(body), *decoder.close()]
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["a", "b"]
    assert [event.code for event in events if isinstance(event, StreamNotice)] == ["malformed_event"]
    assert any(isinstance(event, MessageStop) for event in events)


@pytest.mark.parametrize("rest", [text("x")[:-1] + b"\0", b"<html>what is this?</html>", text("x")[:20]])
def test_what_follows_a_whole_answer_does_not_spoil_it(rest):
    decoder = WIRE.decoder()
    events = [*decoder.feed(text("a") + STOP + rest), *decoder.feed(b"more" * 99), *decoder.close()]
    assert any(isinstance(event, MessageStop) for event in events)


@pytest.mark.requirement("D6")
def test_an_end_within_a_message():
    decoder = WIRE.decoder()
    decoder.feed(text("a") + text("b")[:-1])
    with pytest.raises(StreamIncomplete, match="within an event"):
        decoder.close()


@pytest.mark.requirement("O2")
def test_a_long_message_in_small_pieces_is_not_copied_for_each():
    """Quadratic copying would take minutes here."""
    payload = random.Random(1).randbytes(6_000_000).hex().encode()
    message = encode_event("new", b'"%b"' % payload)
    pieces = [message[at : at + 1000] for at in range(0, len(message), 1000)]
    ((_, found),) = taken(MessageDecoder(limit=2**24), pieces)
    assert found == b'"%b"' % payload


def test_lines_of_recordings():
    assert frame_line(b'{"throttlingException":{"message":"m"}}') == encode_exception(
        "throttlingException", b'{"message":"m"}'
    )
    assert b'{"bytes":"' in frame_line(b'{"type":"message_stop"}')
    decoder = WIRE.decoder()
    with pytest.raises(MalformedEvent):
        decoder.feed(frame_line(b"{broken"))
    with pytest.raises(MalformedEvent):
        WIRE.decoder().feed(frame_line(b'{"\xa6":{}}'))
