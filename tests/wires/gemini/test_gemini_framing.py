"""The framings of Gemini's stream, their limits, and malformed events."""

from __future__ import annotations

import itertools
import json
import time
import tracemalloc
from collections import deque

import pytest

from tests.wires.gemini.streams import arg, chunk, decode, end, pieces, sse
from turnstream.core.stream_events import (
    StreamNotice,
    TextDelta,
)
from turnstream.errors import EventTooLarge, MalformedEvent, StreamIncomplete
from turnstream.wires.gemini.wire import WIRE
from turnstream.wires.recording import decode_pieces

# --- framing ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("E6")
def test_a_malformed_event_is_skipped_or_ends_the_stream() -> None:
    begun, ended = chunk({"text": "a"}), end({"text": "b"})
    broken = b'{"candidates": [}'
    for body in (
        sse(begun) + b"data: " + broken + b"\n\n" + sse(ended),
        b"[%b,%b,%b]" % (json.dumps(begun).encode(), broken, json.dumps(ended).encode()),
        b"[%b,\n%b\n,%b]"
        % (json.dumps(begun, indent=1).encode(), broken, json.dumps(ended, indent=1).encode()),
        b"[%b, nonsense ,%b]" % (json.dumps(begun).encode(), json.dumps(ended).encode()),
    ):
        decoder = WIRE.decoder()
        assert decoder.feed(body)[-1] == TextDelta(0, "a")
        with pytest.raises(MalformedEvent):
            decoder.feed(b"")
        with pytest.raises(MalformedEvent):
            decoder.close()
        events = decode(body, on_malformed="skip")
        assert [event.code for event in events if isinstance(event, StreamNotice)] == ["malformed_event"]
        assert [event.text for event in events if isinstance(event, TextDelta)] == ["a", "b"]


@pytest.mark.requirement("E4", "O2")
@pytest.mark.parametrize("before", [b"[", b'[{"a":"', b"[ nonsense", b"data: "])
def test_an_event_has_a_limit(before: bytes) -> None:
    for size in (99, 100, 10_000):
        body = sse(chunk({"text": "x" * size}))
        whole = json.dumps([chunk({"text": "x" * size})], indent=1).encode()
        for framed in (body, whole, json.dumps([chunk({"text": "x" * size})]).encode()):
            limit = len(framed) - 10
            with pytest.raises(StreamIncomplete):
                decode(framed, event_limit=limit + 10)
            with pytest.raises(EventTooLarge):
                decode(framed, event_limit=size)
    decoder = WIRE.decoder(event_limit=100_000)
    decoder.feed(before)
    tracemalloc.start()
    try:
        with pytest.raises(EventTooLarge):
            deque(map(decoder.feed, itertools.repeat(b"x" * 10_000, 1000)), maxlen=0)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.requirement("E4")
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_takes_time_in_proportion(indent: int | None) -> None:
    def seconds(count: int) -> float:
        body = json.dumps([chunk({"text": '}\n]\\"' * 3})] * count, indent=indent).encode()
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            decoder = WIRE.decoder()
            for place in range(0, len(body), 300):
                decoder.feed(body[place : place + 300])
            WIRE.decoder().feed(body)
            best = min(best, time.process_time() - began)
        return best

    assert seconds(4000) < 4 * 16 * seconds(250)


@pytest.mark.requirement("B4")
@pytest.mark.parametrize(
    "path", ["$.items[{n}].name", "$.text", "$.half{half}.k{n}"], ids=["fields", "a string", "late"]
)
def test_arguments_in_pieces_take_time_in_proportion(path: str) -> None:
    def seconds(count: int) -> float:
        told = [path.format(n=n, half=n % 2) for n in range(count)]
        body = sse(
            chunk(pieces(name="f")), *(chunk(pieces(arg(where, "word ", more=True))) for where in told)
        )
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            WIRE.decoder().feed(body)
            best = min(best, time.process_time() - began)
        return best

    assert seconds(2000) < 16 * 4 * seconds(125)


@pytest.mark.requirement("B4", "E4")
def test_halves_of_a_surrogate_pair_meet() -> None:
    body = sse(chunk({"text": "a"})) + (
        b'data: {"candidates":[{"content":{"parts":[{"text":"\\ud83d"}]}}]}\n\n'
        b'data: {"candidates":[{"content":{"parts":[{"text":"\\ude00"}]},"finishReason":"STOP"}]}\n\n'
    )
    assert decode_pieces(WIRE, [body])["blocks"][0]["text_content"] == "a😀"


@pytest.mark.requirement("E1")
def test_proto_names_are_read() -> None:
    body = sse(
        {
            "candidates": [
                {
                    "content": {
                        "parts": [
                            {"text": "hm", "thought": True},
                            {"function_call": {"name": "f", "args": {"a_b": 1}}, "thought_signature": "c2ln"},
                        ]
                    },
                    "finish_reason": "STOP",
                }
            ],
            "usage_metadata": {"prompt_token_count": 3},
            "model_version": "m",
            "response_id": "r1",
        }
    )
    found = decode_pieces(WIRE, [body])
    assert (found["id"], found["model"], found["usage"]["input_tokens"]) == ("r1", "m", 3)
    assert found["blocks"][1]["content"]["input"] == {"a_b": 1}
    assert found["blocks"][1]["content"]["provider_metadata"] == {"thoughtSignature": "c2ln"}
