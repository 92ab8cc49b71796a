"""Every recording of the ollama wire decodes to its expectation, however its bytes are cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.corpus.recordings import Recording, every_cut, random_cuts, recordings, single_bytes
from turnstream.core.stream_events import Metadata, StreamEvent
from turnstream.wires import WIRES
from turnstream.wires.recording import decode_pieces, decode_recording

WIRE = WIRES["ollama"]
EVERY_CUT = 4500
"""Bytes before the end within which a body is cut at every place. They contain the final line."""

DISPUTED: dict[tuple[str, str], Any] = {}
"""(file, field) → the value in the bytes, where the expectation differs. There is none."""

STOP_REASONS = {"stop": "end_turn", "length": "max_tokens"}
COUNTS = (
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
)

every_recording = pytest.mark.parametrize("recording", recordings("ollama"))


@every_recording
@pytest.mark.requirement("B1", "B3", "E1", "E2", "E3", "E5", "I1")
def test_decodes_to_its_expectation(recording: Recording) -> None:
    expected, entry = recording.expected, recording.entry["expected"]
    last = expected["last"]
    decoded = decode_recording(WIRE, recording.data, file_name=recording.name)
    blocks = decoded["blocks"]
    assert [block["sequence"] for block in blocks] == list(range(len(blocks)))
    assert {block["block_type"] for block in blocks} <= {"text", "thinking", "tool_use"}
    assert text_of(blocks, "text") == DISPUTED.get((recording.name, "content"), expected["content"])
    assert text_of(blocks, "thinking") == expected["thinking"]
    assert [block["content"]["tool_name"] for block in blocks if block["block_type"] == "tool_use"] == [
        call["function"]["name"] for call in expected["tool_calls"]
    ]
    assert decoded["model"] == last["model"] == entry["model"]
    assert decoded["raw_stop_reason"] == last["done_reason"]
    assert decoded["stop_reason"] == STOP_REASONS[last["done_reason"]]
    assert decoded["raw_usage"] == {name: last[name] for name in COUNTS if name in last}
    assert decoded["usage"] == {
        "input_tokens": last.get("prompt_eval_count"),
        "output_tokens": last["eval_count"],
        "cache_read_tokens": None,
        "cache_write_tokens": None,
        "reasoning_tokens": None,
    }
    assert decoded["error"] is None
    assert decoded["complete"] is entry["done"]


@every_recording
@pytest.mark.requirement("B4", "E4", "E5")
def test_any_cut_decodes_alike(recording: Recording) -> None:
    body = recording.body(WIRE)
    whole = decode_pieces(WIRE, [body])
    begin, end = body[:-EVERY_CUT], body[-EVERY_CUT:]
    if not begin:
        assert all(decode_pieces(WIRE, pieces) == whole for pieces in every_cut(end))
    for place in range(len(begin) + 1, len(body), 7):
        assert decode_pieces(WIRE, [body[:place], body[place:]]) == whole
    for cut in random_cuts(body, times=20, seed=recording.name):
        assert decode_pieces(WIRE, cut) == whole
    assert decode_pieces(WIRE, single_bytes(body)) == whole


@every_recording
@pytest.mark.requirement("E4")
def test_any_line_end_decodes_alike(recording: Recording) -> None:
    body = recording.body(WIRE)
    whole = decode_pieces(WIRE, [body])
    assert decode_pieces(WIRE, [b"\xef\xbb\xbf" + body.replace(b"\n", b"\r\n")]) == whole
    assert decode_pieces(WIRE, [b"\n\n" + body.replace(b"\n", b"\n \n\n")]) == whole
    assert decode_pieces(WIRE, [body.rstrip()]) == whole


@every_recording
@pytest.mark.requirement("D6", "P5")
def test_a_body_that_breaks_off_before_its_final_line_is_never_complete(recording: Recording) -> None:
    body = recording.body(WIRE).rstrip()
    whole = decode_pieces(WIRE, [body])
    for place in [*range(0, len(body), 101), *range(len(body) - 60, len(body))]:
        decoded = decode_pieces(WIRE, [body[:place]])
        assert decoded["complete"] is False
        assert decoded["error"]["code"] == "stream_incomplete"
        assert text_of(whole["blocks"], "text").startswith(text_of(decoded["blocks"], "text"))


@every_recording
@pytest.mark.requirement("E5")
def test_a_final_line_that_repeats_the_whole_answer_changes_nothing(recording: Recording) -> None:
    body = recording.body(WIRE).rstrip()
    *lines, last = body.split(b"\n")
    text = recording.expected["content"]
    value = json.loads(last)
    if "message" in value:
        value["message"]["content"] = text
    else:
        value["response"] = text
    repeated = b"\n".join([*lines, json.dumps(value).encode()])
    assert decode_pieces(WIRE, [repeated]) == decode_pieces(WIRE, [body])


@every_recording
@pytest.mark.requirement("E1")
def test_what_the_encoder_writes_decodes_to_the_same_message(recording: Recording) -> None:
    """Return all fields but those beside the answer, which are left out."""
    events = decode_events(recording.body(WIRE))
    encoder = WIRE.encoder(model="another", message_id="another")
    one_by_one = b"".join([encoder.feed([event]) for event in events]) + encoder.close()
    assert decode_events(one_by_one) == [
        event for event in events if not (isinstance(event, Metadata) and event.provider_metadata)
    ]


def decode_events(body: bytes) -> list[StreamEvent]:
    decoder = WIRE.decoder()
    return [*decoder.feed(body), *decoder.close()]


def text_of(blocks: list[dict[str, Any]], block_type: str) -> str:
    return "".join(block["text_content"] for block in blocks if block["block_type"] == block_type)
