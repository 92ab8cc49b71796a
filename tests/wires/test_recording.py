"""Decoding a recorded answer."""

from __future__ import annotations

import gzip
import json

import pytest

from turnstream.core.stream_events import MessageStart, MessageStop, StreamEvent, TextDelta
from turnstream.errors import InvalidRequest
from turnstream.wires import WIRES
from turnstream.wires.recording import decode_pieces, decode_recording

WIRE = WIRES["anthropic"]


def encoded(*events: StreamEvent) -> bytes:
    encoder = WIRE.encoder(model="m", message_id="i")
    return encoder.feed([MessageStart("i", "m"), *events]) + encoder.close()


def test_the_object_has_every_field() -> None:
    body = encoded(TextDelta(0, "hello"), MessageStop("end_turn", "end_turn"))
    decoded = decode_recording(WIRE, body, file_name="a.sse")
    assert decoded == {
        "wire": "anthropic",
        "id": "i",
        "model": "m",
        "blocks": [{"sequence": 0, "block_type": "text", "text_content": "hello", "content": None}],
        "stop_reason": "end_turn",
        "raw_stop_reason": "end_turn",
        "usage": {
            "input_tokens": 0,
            "output_tokens": 0,
            "cache_read_tokens": None,
            "cache_write_tokens": None,
            "reasoning_tokens": None,
        },
        "raw_usage": {"input_tokens": 0, "output_tokens": 0},
        "complete": True,
        "error": None,
        "events": 7,
    }
    json.dumps(decoded)


def test_archives_and_lines() -> None:
    body = encoded(TextDelta(0, "hello\u2028"), MessageStop("end_turn", "end_turn"))
    whole = decode_pieces(WIRE, [body])
    lines = b"\r\n".join(part.partition(b"data: ")[2] for part in body.split(b"\n\n"))
    assert decode_recording(WIRE, lines, file_name="a.jsonl") == whole
    assert decode_recording(WIRE, gzip.compress(lines), file_name="a.jsonl.gz") == whole
    assert decode_recording(WIRE, gzip.compress(body), file_name="a.sse.gz") == whole
    for broken in (body, gzip.compress(body)[:-5]):
        with pytest.raises(InvalidRequest, match=r"a\.sse\.gz"):
            decode_recording(WIRE, broken, file_name="a.sse.gz")


@pytest.mark.requirement("P5", "D6")
def test_what_a_broken_recording_holds_is_there_with_its_error() -> None:
    body = encoded(TextDelta(0, "hello"))
    decoded = decode_pieces(WIRE, [body])
    assert decoded["complete"] is False
    assert decoded["error"]["code"] == "stream_incomplete"
    assert decoded["blocks"][0]["text_content"] == "hello"
    decoded = decode_pieces(WIRE, [body + b"data: {\n\n" + body])
    assert decoded["error"]["code"] == "malformed_event"
    assert decoded["blocks"][0]["text_content"] == "hello"
    error = (
        b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}\n\n'
    )
    decoded = decode_pieces(WIRE, [body + error])
    assert decoded["error"] == {"code": "overloaded_error", "message": "busy"}
    assert decoded["complete"] is False
    assert decode_pieces(WIRE, [])["blocks"] == []
