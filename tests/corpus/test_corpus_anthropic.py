"""Every recording of the anthropic wire decodes to its expectation, however its bytes are cut."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.corpus.recordings import (
    SHORT,
    Recording,
    every_cut,
    random_cuts,
    recordings,
    single_bytes,
)
from turnstream.wires import WIRES
from turnstream.wires.recording import decode_pieces, decode_recording

WIRE = WIRES["anthropic"]

DISPUTED: dict[tuple[str, int, str], Any] = {
    # The delta of this compaction carries an encrypted_content, which the API wants back word for word; the
    # expectation has the null that the block began with.
    (
        "anthropic/ant-compaction_response.sse",
        0,
        "encrypted_content",
    ): "EpwBCioIDxgCEAEYASJALd_opaque_compaction_payload",
}
"""(file, block, field) → the value in the bytes, where the expectation differs."""

every_recording = pytest.mark.parametrize("recording", recordings("anthropic"))


@every_recording
@pytest.mark.requirement("B3", "B5", "E1", "E2", "E3", "I1")
def test_decodes_to_its_expectation(recording: Recording) -> None:
    expected = recording.expected
    decoded = decode_recording(WIRE, recording.data, file_name=recording.name)
    assert [provider_shape(block) for block in decoded["blocks"]] == expected_blocks(
        recording, expected["content"]
    )
    assert [block["sequence"] for block in decoded["blocks"]] == list(range(len(decoded["blocks"])))
    assert decoded["id"] == expected["message"]["id"]
    assert decoded["model"] == expected["message"]["model"]
    assert decoded["raw_stop_reason"] == expected["final"].get("stop_reason")
    assert decoded["stop_reason"] == decoded["raw_stop_reason"], (
        "all stop reasons recorded so far have our names"
    )
    assert decoded["raw_usage"] == expected["usage"]
    assert decoded["usage"] == expected_usage(expected["usage"])
    assert decoded["complete"] is recording.entry["expected"]["complete"]
    assert decoded["error"] == expected_error(recording)


@every_recording
@pytest.mark.requirement("B4", "E4")
def test_any_cut_decodes_alike(recording: Recording) -> None:
    body = recording.body(WIRE)
    whole = decode_pieces(WIRE, [body])
    if len(body) <= SHORT:
        for pieces in every_cut(body):
            assert decode_pieces(WIRE, pieces) == whole
    for cut in random_cuts(body, times=8, seed=recording.name):
        assert decode_pieces(WIRE, cut) == whole
    assert decode_pieces(WIRE, single_bytes(body)) == whole


@every_recording
@pytest.mark.requirement("E4")
def test_any_line_end_and_archive_decodes_alike(recording: Recording) -> None:
    body = recording.body(WIRE)
    whole = decode_pieces(WIRE, [body])
    assert decode_pieces(WIRE, [b"\xef\xbb\xbf" + body.replace(b"\n", b"\r\n")]) == whole
    assert decode_pieces(WIRE, [body.replace(b"\n", b"\r")]) == whole
    assert decode_pieces(WIRE, [b": ping\n\n", body.replace(b"\ndata: ", b"\ndata:")]) == whole
    packed = gzip.compress(recording.data)
    assert decode_recording(WIRE, packed, file_name=recording.name.upper() + ".GZ") == whole


@every_recording
@pytest.mark.requirement("D6", "P5")
def test_a_body_that_breaks_off_is_never_complete(recording: Recording) -> None:
    body = recording.body(WIRE)
    whole = decode_pieces(WIRE, [body])
    end = body.rindex(b"message_stop") if whole["complete"] else len(body)
    frames = [place for place in range(len(body)) if body.startswith(b"\n\n", place)]
    for place in [*range(0, end, max(1, end // 40)), *frames]:
        if place >= end:
            continue
        decoded = decode_pieces(WIRE, [body[:place]])
        assert decoded["complete"] is False
        assert decoded["error"]["code"] == "stream_incomplete"
        for block, full in zip(decoded["blocks"], whole["blocks"], strict=False):
            assert block["block_type"] == full["block_type"]
            assert (full["text_content"] or "").startswith(block["text_content"] or "")


@every_recording
@pytest.mark.requirement("E1")
def test_what_the_encoder_writes_decodes_to_the_same_message(recording: Recording) -> None:
    body = recording.body(WIRE)
    decoder = WIRE.decoder()
    events = [*decoder.feed(body), *decoder.close()]
    encoder = WIRE.encoder(model="another", message_id="another")
    one_by_one = b"".join([encoder.feed([event]) for event in events]) + encoder.close()
    encoder = WIRE.encoder(model="another", message_id="another")
    assert one_by_one == encoder.feed(events) + encoder.close()
    again = decode_pieces(WIRE, [one_by_one])
    whole = decode_pieces(WIRE, [body])
    assert {**again, "events": None} == {**whole, "events": None}


def provider_shape(block: dict[str, Any]) -> dict[str, Any]:
    """Return a block in the provider's own shape."""
    content: dict[str, Any] = dict(block["content"] or {})
    metadata: dict[str, Any] = content.pop("provider_metadata", {})
    match block["block_type"]:
        case "text":
            return {"type": "text", "text": block["text_content"], **content}
        case "thinking" if "redacted" in content:
            return {"type": "redacted_thinking", "data": content["redacted"]}
        case "thinking":
            return {"type": "thinking", "thinking": block["text_content"], **content}
        case "tool_use":
            assert content.pop("provider_executed", False) is ("type" in metadata)
            assert "input_error" not in content
            input_json = content.pop("input_json")
            assert input_json == "" or json.loads(input_json) == content["input"]
            raw = {"type": "tool_use", **metadata, "_raw_input": input_json}
            return raw | {
                "id": content["tool_use_id"],
                "name": content["tool_name"],
                "input": content["input"],
            }
        case "tool_result":
            assert content["provider_executed"] is True
            assert isinstance(content["is_error"], bool)
            return {"tool_use_id": content["tool_use_id"], "content": content["content"], **metadata}
        case "provider":
            return content
        case other:
            raise AssertionError(f"no recording has a {other} block")


def expected_blocks(recording: Recording, content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the expectation, with its implicit fields added and its errors corrected."""
    blocks = [dict(block) for block in content]
    for position, block in enumerate(blocks):
        if block["type"].endswith("tool_use"):
            block.setdefault("_raw_input", "")
        for (name, index, field), value in DISPUTED.items():
            if (name, index) == (recording.name, position):
                block[field] = value
    return blocks


def expected_error(recording: Recording) -> dict[str, str] | None:
    error = recording.expected["error"]
    if error is not None:
        return {"code": error["type"], "message": error["message"]}
    if recording.entry["expected"]["complete"]:
        return None
    return {"code": "stream_incomplete", "message": "the stream ended without message_stop"}


def expected_usage(raw: dict[str, Any]) -> dict[str, int | None]:
    return {
        "input_tokens": raw.get("input_tokens"),
        "output_tokens": raw.get("output_tokens"),
        "cache_read_tokens": raw.get("cache_read_input_tokens"),
        "cache_write_tokens": raw.get("cache_creation_input_tokens"),
        "reasoning_tokens": raw.get("output_tokens_details", {}).get("thinking_tokens"),
    }
