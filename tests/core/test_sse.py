"""Framing of server-sent events, compared with a decoder that reads lines."""

import re
import time
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from turnstream.core.sse import SseDecoder, encode_event
from turnstream.core.sse_frames import UNFRAMED, ServerSentEvent
from turnstream.errors import EventTooLarge, TurnstreamError

LIMIT = 1 << 20

FRAGMENTS = [
    b"data: ", b"data:", b"data", b"data:  two", b"event: ", b"event:x", b"event: message_delta", b"id: 7", b"id",
    b"id: a\0b", b"retry: 10", b": comment", b":", b"unknown: field", b'{"a": 1}', b"\xf0\x9f\x98\x80",
    b"\xe2\x80\xa8", b"\xc2\x85", b"\x0b", b"\x0c", b"\xff", b"\xef\xbb\xbf", b" ", b"[DONE]",
]  # fmt: skip
LINE_ENDS = [b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\n\n\n"]
streams = st.lists(st.sampled_from(FRAGMENTS + LINE_ENDS + LINE_ENDS), max_size=40).map(b"".join)
streams_with_mark = st.tuples(st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb", b"\xef"]), streams).map(
    b"".join
)


def reference(body: bytes) -> list[ServerSentEvent]:
    """The standard's algorithm, by lines. The end of the body also ends the last event."""
    events: list[ServerSentEvent] = []
    name = identity = None
    data: list[bytes] = []
    for line in [*re.split(rb"\r\n|\r|\n", body.removeprefix(b"\xef\xbb\xbf")), b""]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if data:
                events.append((name, b"\n".join(data), identity))
            name, identity, data = None, None, []
        elif field == b"data":
            data.append(value)
        elif field == b"event":
            name = value or None
        elif field == b"id" and b"\0" not in value:
            identity = value
    return events


def decode(pieces: Iterable[bytes], limit: int = LIMIT) -> list[ServerSentEvent]:
    decoder = SseDecoder(event_limit=limit)
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.close()


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in pairwise(bounds)]


@pytest.mark.requirement("E4")
@given(streams_with_mark, st.lists(st.integers(0, 1000), max_size=8))
@example(b"data: a\r\n\r\ndata: b\r\n\r\n", [8])
@example(b"\xef\xbb\xbfdata: a\n\n", [1, 2])
def test_any_cut_of_any_bytes_agrees_with_the_line_by_line_decoder(body: bytes, places: list[int]) -> None:
    assert decode(cut(body, places)) == reference(body)


@pytest.mark.requirement("E4")
@given(streams_with_mark)
def test_byte_by_byte_agrees_with_the_line_by_line_decoder(body: bytes) -> None:
    assert decode(body[i : i + 1] for i in range(len(body))) == reference(body)


alike = st.sampled_from(
    [
        b"data: a\n\n", b"data: b\n\n", b"data: \n\n", b"event: x\ndata: a\n\n", b"event: x\ndata: b\n\n",
        b"event: y\ndata: a\n\n", b"event: x\ndata: a\ndata: b\n\n", b"data: a\r\n\r\n", b"event: x\ndata: a\r\r", b"data: a\rb\n\n",
        b"event: x\ndata: a\n", b"\n", b"\n\n", b"data: a\n\n\n", b"id: 1\nevent: x\ndata: a\n\n", b": ping\n\n", b"data: ",
        b"\r", b"event: x\ndata: a\n\n\n\n",
    ]
)  # fmt: skip


@pytest.mark.requirement("E4")
@given(st.lists(alike, max_size=12))
def test_reads_of_one_event_each_agree_with_the_line_by_line_decoder(reads: list[bytes]) -> None:
    assert decode(reads) == reference(b"".join(reads))


@pytest.mark.requirement("E4")
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_arbitrary_bytes(body: bytes, places: list[int]) -> None:
    assert decode(cut(body, places)) == reference(body)


@pytest.mark.requirement("E4")
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"data: a\n\n", [(None, b"a", None)], id="plain"),
        pytest.param(b"data:a\n\n", [(None, b"a", None)], id="no space"),
        pytest.param(b"data:  a\n\n", [(None, b" a", None)], id="one space is taken off"),
        pytest.param(b"event: x\ndata: a\n\n", [(b"x", b"a", None)], id="named"),
        pytest.param(b"data: a\nevent: x\n\n", [(b"x", b"a", None)], id="name after data"),
        pytest.param(b"id: 1-2\nevent: x\ndata: a\n\n", [(b"x", b"a", b"1-2")], id="with id"),
        pytest.param(b"data: a\ndata: b\n\n", [(None, b"a\nb", None)], id="two lines"),
        pytest.param(b"event: x\ndata: a\ndata: b\n\n", [(b"x", b"a\nb", None)], id="named, two lines"),
        pytest.param(b"data\n\n", [(None, b"", None)], id="no colon"),
        pytest.param(b"data:\n\n", [(None, b"", None)], id="empty"),
        pytest.param(b"event: x\n\n", [], id="no data, no event"),
        pytest.param(b": ping\n\n:\n\n", [], id="comments"),
        pytest.param(b": ping\ndata: a\n\n", [(None, b"a", None)], id="comment above data"),
        pytest.param(b"data: a\r\n\r\n", [(None, b"a", None)], id="CRLF"),
        pytest.param(b"data: a\r\r", [(None, b"a", None)], id="CR"),
        pytest.param(b"\n\n\ndata: a\n\n\n\n", [(None, b"a", None)], id="more blank lines"),
        pytest.param(b"data: a", [(None, b"a", None)], id="no line end"),
        pytest.param(b"data: a\n", [(None, b"a", None)], id="no blank line"),
        pytest.param(b"event: \ndata: a\n\n", [(None, b"a", None)], id="empty name"),
        pytest.param(
            "data: a\u2028b\u0085c\x0bd\n\n".encode(),
            [(None, "a\u2028b\u0085c\x0bd".encode(), None)],
            id="only LF and CR end lines",
        ),
    ],
)
def test_frames(body: bytes, expected: list[ServerSentEvent]) -> None:
    assert decode([body]) == expected
    assert decode(body[i : i + 1] for i in range(len(body))) == expected


@pytest.mark.requirement("E4")
def test_a_carriage_return_ends_a_line_at_once() -> None:
    """A blank line that ends with CR dispatches its event at once. The decoder does not wait for an LF."""
    decoder = SseDecoder(event_limit=LIMIT)
    assert decoder.feed(b"data: a\r\n\r") == [(None, b"a", None)]
    assert decoder.feed(b"\ndata: b\n\n") == [(None, b"b", None)]


@pytest.mark.requirement("E4")
@given(st.integers(1, 60), st.lists(st.integers(0, 500), max_size=6))
def test_the_limit_does_not_depend_on_the_cuts(limit: int, places: list[int]) -> None:
    body = (
        b"".join(b"event: %d\ndata: %b\n\n" % (n, b"x" * n) for n in range(8))
        + b"data: "
        + b"y" * 50
        + b"\n\n"
    )
    assert received(cut(body, places), limit) == received([body], limit)
    assert received([body[i : i + 1] for i in range(len(body))], limit) == received([body], limit)
    assert received(re.findall(rb".*?\n\n", body, re.DOTALL), limit) == received([body], limit)


def received(pieces: list[bytes], limit: int) -> tuple[list[ServerSentEvent], bool]:
    decoder = SseDecoder(event_limit=limit)
    events: list[ServerSentEvent] = []
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        events += decoder.close()
    except EventTooLarge:
        return events, True
    return events, False


@pytest.mark.requirement("E4")
def test_an_event_above_the_limit_fails_while_it_grows_and_for_good() -> None:
    decoder = SseDecoder(event_limit=100)
    decoder.feed(b"data: ")
    for _ in range(9):
        decoder.feed(b"x" * 10)
    with pytest.raises(EventTooLarge) as failure:
        decoder.feed(b"x" * 10)
    assert failure.value.code == "event_too_large"
    with pytest.raises(EventTooLarge):
        decoder.feed(b"data: small\n\n")
    with pytest.raises(TurnstreamError):
        decoder.close()


@pytest.mark.requirement("E4")
def test_events_before_one_that_is_too_large_are_kept() -> None:
    decoder = SseDecoder(event_limit=20)
    assert decoder.feed(b"data: a\n\ndata: " + b"x" * 30 + b"\n\ndata: b\n\n") == [(None, b"a", None)]
    with pytest.raises(EventTooLarge):
        decoder.feed(b"")


@pytest.mark.requirement("E4", "O2")
def test_a_large_event_in_small_pieces_costs_linear_time() -> None:
    def seconds(kibibytes: int) -> float:
        decoder = SseDecoder(event_limit=1 << 30)
        piece = b"x" * 1024
        start = time.process_time()
        decoder.feed(b"data: ")
        for _ in range(kibibytes):
            decoder.feed(piece)
        (event,) = decoder.feed(b"\n\n")
        assert len(event[1]) == kibibytes * 1024
        return time.process_time() - start

    small, large = (min(seconds(size) for _ in range(3)) for size in (1024, 8192))
    assert large < 24 * small, "eight times the bytes; a quadratic decoder takes sixty-four times as long"


lines = st.binary(max_size=30)
names = st.none() | st.binary(min_size=1, max_size=10).filter(
    lambda name: not set(name) & set(b"\r\n\0") and name[:1] != b" "
)


@pytest.mark.requirement("E4")
@given(lines, names, names)
def test_what_is_encoded_decodes_to_itself(data: bytes, event: bytes | None, identity: bytes | None) -> None:
    frame = encode_event(data, event=event, id=identity)
    normalised = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert frame.endswith(b"\n\n")
    assert b"\r" not in frame
    assert decode([frame]) == [(event, normalised, identity)]


def test_the_fields_of_an_encoded_event_are_one_line_each() -> None:
    assert encode_event(b"a\nb", event=b"x", id=b"1-2") == b"event: x\ndata: a\ndata: b\nid: 1-2\n\n"
    for broken in (b"a\nb", b"a\rb"):
        with pytest.raises(ValueError, match="line end"):
            encode_event(b"", event=broken)
        with pytest.raises(ValueError, match="line end"):
            encode_event(b"", id=broken)


def test_comments_are_no_events() -> None:
    assert decode([b": ping\n\n", b":\n\n", b"data: a\n\n"]) == [(None, b"a", None)]


@pytest.mark.requirement("E4")
def test_bare_json_is_an_event_in_a_loose_body() -> None:
    body = b'data: a\n\n{\r\n  "error": 1\r\n}\r\n\r\n: no\n\nid: 1\n\n[{}]'
    assert decode([body]) == [(None, b"a", None)]
    for place in range(len(body) + 1):
        decoder = SseDecoder(event_limit=LIMIT, loose=True)
        found = [*decoder.feed(body[:place]), *decoder.feed(body[place:]), *decoder.close()]
        assert found == [(None, b"a", None), (None, b'{\n  "error": 1\n}', None), (None, b"[{}]", None)]


LOOSE_FRAGMENTS = [
    *FRAGMENTS, b'data: {"a": 1}', b'data: {"b": 2}', b'{"error": 1}', b"error: {", b'  "a": 1', b"}", b"{", b"event: error",
    b"data: {", b"Bad Gateway", b"data: [DONE]", b"error", b"<html>",
]  # fmt: skip
loose_streams = st.lists(
    st.tuples(st.sampled_from(LOOSE_FRAGMENTS), st.sampled_from(LINE_ENDS + [b"\n"] * 8)).map(b"".join),
    max_size=12,
).map(b"".join)


def decode_loosely(pieces: Iterable[bytes]) -> list[ServerSentEvent]:
    decoder = SseDecoder(event_limit=LIMIT, loose=True)
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.close()


@pytest.mark.fault(11, 23)
@example(b'data: {"a": 1}\n{"b": 2}\nevent: x\n\n', [16])
@example(b'data: {"a": 1}\n[2]\nevent: x\n\n', [16])
@example(b'data: {"a": 1}\nid: 7\n{"b": 2}\n\n', [16])
@given(loose_streams, st.lists(st.integers(0, 1000), max_size=8))
def test_any_cut_of_a_loose_body_gives_the_same_events(body: bytes, places: list[int]) -> None:
    whole = decode_loosely([body])
    assert decode_loosely(cut(body, places)) == whole
    assert decode_loosely(body[i : i + 1] for i in range(len(body))) == whole


standard_frames = st.sampled_from(
    [
        b'data: {"a": 1}\n\n', b"event: x\ndata: {}\n\n", b"data: a\nevent: x\n\n", b"id: 1\nevent: x\ndata: a\n\n",
        b": ping\n\n", b"retry: 3\n\n", b"data: a\ndata: b\n\n", b"data: {\ndata: }\n\n", b": x\ndata: a\n\n",
    ]
)  # fmt: skip


@pytest.mark.fault(11)
@given(st.lists(standard_frames, max_size=8).map(b"".join))
def test_a_body_that_follows_the_standard_reads_the_same_loosely(body: bytes) -> None:
    assert decode_loosely([body]) == reference(body)


@pytest.mark.fault(11, 23)
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            b'data: {"a":1}\ndata: {"b":2}\n\n', [(None, b'{"a":1}'), (None, b'{"b":2}')], id="two values"
        ),
        pytest.param(
            b"event: x\ndata: {}\nevent: y\ndata: []\n\n", [(b"x", b"{}"), (b"y", b"[]")], id="two with names"
        ),
        pytest.param(b"data: {\ndata: }\n\n", [(None, b"{\n}")], id="one value on two lines"),
        pytest.param(b'data: {\n "a": 1\n}\n\n', [(None, b'{\n "a": 1\n}')], id="indented behind one data"),
        pytest.param(b'{"a":1}\n{"b":2}\n', [(None, b'{"a":1}'), (None, b'{"b":2}')], id="JSON lines"),
        pytest.param(b"[DONE]\n\n", [(None, b"[DONE]")], id="bare end"),
        pytest.param(b"data: {}\ndata: [DONE]\n\n", [(None, b"{}"), (None, b"[DONE]")], id="value and end"),
        pytest.param(
            b"error: {\n}\ndata: [DONE]\n\n",
            [(UNFRAMED, b"error: {\n}"), (None, b"[DONE]")],
            id="field above data",
        ),
        pytest.param(
            b"data: {}\nerror: 1\n\n", [(None, b"{}"), (UNFRAMED, b"error: 1")], id="field below data"
        ),
        pytest.param(b"event: error\n{}\n\n", [(b"error", b"{}")], id="name above bare JSON"),
        pytest.param(b"event: error\n\n", [(b"error", b"")], id="name alone"),
        pytest.param(b"Bad Gateway\n\n", [(UNFRAMED, b"Bad Gateway")], id="text"),
        pytest.param(b": a\n\nretry: 1\n\nid: 2\n\n:\n\n", [], id="no events"),
    ],
)
def test_loose_frames(body: bytes, expected: list[tuple[bytes | None, bytes]]) -> None:
    for pieces in ([body], [body[i : i + 1] for i in range(len(body))]):
        assert [event[:2] for event in decode_loosely(pieces)] == expected


@pytest.mark.fault(23)
@pytest.mark.parametrize("line", [b'data: {"a": %d}\n', b'event: x\ndata: {"a": %d}\n', b'{"a": %d}\n'])
def test_events_without_blank_lines_come_with_the_line_after_them(line: bytes) -> None:
    decoder = SseDecoder(event_limit=LIMIT, loose=True)
    counts = [len(decoder.feed(line % number)) for number in range(5)]
    assert counts == [0, 1, 1, 1, 1]
    assert len(decoder.close()) == 1


@pytest.mark.fault(11)
@pytest.mark.parametrize(
    "line", [b"<p>\n", b"data: {\n", b'data: {"a": 1}\n', b"{}\n", b"error: x\n", b": ping\n"]
)
def test_a_body_without_blank_lines_costs_linear_time(line: bytes) -> None:
    def seconds(lines: int) -> float:
        decoder = SseDecoder(event_limit=1 << 26, loose=True)
        start = time.process_time()
        for _ in range(lines):
            decoder.feed(line)
        decoder.close()
        return time.process_time() - start

    small, large = (min(seconds(lines) for _ in range(3)) for lines in (4_000, 16_000))
    assert large < 8 * small, "four times the lines; a quadratic decoder takes sixteen times as long"


@pytest.mark.fault(11)
def test_text_outside_of_events_is_bounded() -> None:
    decoder = SseDecoder(event_limit=100, loose=True)
    for _ in range(12):
        assert decoder.feed(b"<p>text\n") == []
    with pytest.raises(EventTooLarge):
        decoder.feed(b"<p>text\n")
