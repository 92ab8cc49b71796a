"""Every recording of the bedrock wire decodes to its expectation, however its bytes are cut."""

from __future__ import annotations

from typing import Any

import pytest

from tests.corpus.recordings import Recording, every_cut, random_cuts, recordings, single_bytes
from turnstream.core.stream_events import MessageStart, Metadata, StreamEvent
from turnstream.wires import WIRES
from turnstream.wires.recording import decode_pieces, decode_recording
from turnstream.wires.shared.event_stream import split_messages

WIRE = WIRES["bedrock"]

SHORT = 1500
"""Bytes up to which a body is cut at every place. A longer body is cut in its last messages."""

DISPUTED: dict[tuple[str, str], Any] = {}
"""(file, field) → the value in the bytes, where the expectation differs. There is none."""

KINDS = {
    None: "text",  # nothing but citations
    "text": "text",
    "reasoning": "thinking",
    "toolUse": "tool_use",
    "toolResult": "tool_result",
}

every_recording = pytest.mark.parametrize("recording", recordings("bedrock"))


@every_recording
@pytest.mark.requirement("B1", "B3", "B5", "E1", "E2", "E3", "E8", "I1")
def test_decodes_to_its_expectation(recording: Recording) -> None:
    expected = recording.expected
    decoded = decode_recording(WIRE, recording.data, file_name=recording.name)
    blocks = decoded["blocks"]
    assert [block["sequence"] for block in blocks] == list(range(len(blocks)))
    assert decoded["error"] is None
    assert decoded["complete"] is True
    if inner := expected["inner"]:
        assert_is_claudes_own(decoded, inner)
        return
    assert [said(block) for block in blocks] == [
        expected_block(expected["blocks"][index]) for index in sorted(expected["blocks"], key=int)
    ]
    assert decoded["raw_stop_reason"] == expected["final"]["stopReason"]
    assert decoded["stop_reason"] == expected["final"]["stopReason"]
    assert decoded["raw_usage"] == expected["usage"]
    usage = expected["usage"] or {}
    assert decoded["usage"] == {
        "input_tokens": usage.get("inputTokens"),
        "output_tokens": usage.get("outputTokens"),
        "cache_read_tokens": usage.get("cacheReadInputTokens"),
        "cache_write_tokens": usage.get("cacheWriteInputTokens"),
        "reasoning_tokens": None,
    }


def assert_is_claudes_own(decoded: dict[str, Any], inner: dict[str, Any]) -> None:
    """Anthropic's events in Bedrock's framing, as InvokeModelWithResponseStream sends them."""
    assert (decoded["id"], decoded["model"]) == (inner["message"]["id"], inner["message"]["model"])
    assert [(b["block_type"], b["text_content"]) for b in decoded["blocks"]] == [
        (block["type"], block["text"]) for block in inner["content"]
    ]
    assert decoded["raw_stop_reason"] == inner["final"]["stop_reason"]
    assert decoded["raw_usage"] == inner["usage"]


def said(block: dict[str, Any]) -> dict[str, Any]:
    """Return a block in the terms of the expectations."""
    content = block["content"] or {}
    match block["block_type"]:
        case "tool_use":
            assert "input_error" not in content
            return {
                "kind": "tool_use",
                "id": content["tool_use_id"],
                "name": content["tool_name"],
                "input": content["input_json"],
                "ours": not content.get("provider_executed"),
            }
        case "tool_result":
            assert content["provider_executed"] is True
            return {"kind": "tool_result", "id": content["tool_use_id"], "content": content["content"]}
        case "thinking":
            assert block["text_content"] is not None
            keys = ("signature", "redacted")
            return {
                "kind": "thinking",
                "text": block["text_content"],
                **{k: content[k] for k in keys if k in content},
            }
        case _:
            return {
                "kind": block["block_type"],
                "text": block["text_content"],
                "citations": content.get("citations", []),
            }


def expected_block(block: dict[str, Any]) -> dict[str, Any]:
    kind = KINDS[block["kind"]]
    match kind:
        case "tool_use":
            ours = block.get("type", "tool_use") == "tool_use"
            return {
                "kind": kind,
                "id": block["toolUseId"],
                "name": block["name"],
                "input": block["input_raw"],
                "ours": ours,
            }
        case "tool_result":
            return {
                "kind": kind,
                "id": block["toolUseId"],
                "content": [part for parts in block["toolResult"] for part in parts],
            }
        case "thinking":
            named = {"signature": "r_signature", "redacted": "r_redactedContent"}
            return {
                "kind": kind,
                "text": block.get("r_text", ""),
                **{ours: block[k] for ours, k in named.items() if k in block},
            }
        case _:
            return {"kind": kind, "text": block.get("text", ""), "citations": block.get("citations", [])}


@every_recording
@pytest.mark.requirement("B4", "E4")
def test_any_cut_decodes_alike(recording: Recording) -> None:
    body = recording.body(WIRE)
    whole = decode_pieces(WIRE, [body])
    short = body if len(body) <= SHORT else b"".join(list(split_messages(body))[-5:])
    end = decode_pieces(WIRE, [short])
    assert all(decode_pieces(WIRE, pieces) == end for pieces in every_cut(short))
    for cut in random_cuts(body, times=20, seed=recording.name):
        assert decode_pieces(WIRE, cut) == whole
    assert decode_pieces(WIRE, single_bytes(body)) == whole


@every_recording
@pytest.mark.requirement("D6", "P5")
def test_a_body_that_breaks_off_before_its_end_is_never_complete(recording: Recording) -> None:
    body = recording.body(WIRE)
    whole = decode_pieces(WIRE, [body])
    end = next((place for place in range(len(body)) if whole_at(body[:place])), len(body))
    for place in range(0, end, max(1, end // 12)):
        decoded = decode_pieces(WIRE, [body[:place]])
        assert decoded["complete"] is False
        assert decoded["error"]["code"] == "stream_incomplete"
        for block, full in zip(decoded["blocks"], whole["blocks"], strict=False):
            assert block["block_type"] == full["block_type"]
            assert (full["text_content"] or "").startswith(block["text_content"] or "")


def whole_at(body: bytes) -> bool:
    return body.endswith(b"}", -5, -4) and decode_pieces(WIRE, [body])["complete"]


@every_recording
@pytest.mark.requirement("E6")
def test_a_flipped_bit_is_found(recording: Recording) -> None:
    body = bytearray(recording.body(WIRE))
    for place in range(0, len(body), max(1, len(body) // 23)):
        body[place] ^= 1
        decoded = decode_pieces(WIRE, [bytes(body)])
        assert decoded["complete"] or decoded["error"]["code"] in ("malformed_event", "event_too_large")
        assert decoded != decode_pieces(WIRE, [recording.body(WIRE)])
        body[place] ^= 1


@every_recording
@pytest.mark.requirement("E1")
def test_what_the_encoder_writes_decodes_to_the_same_message(recording: Recording) -> None:
    """Return all fields but the message's id and model, which only Claude's events have."""
    body = recording.body(WIRE)
    events = decode_events(body)
    encoder = WIRE.encoder(model="another", message_id="another")
    one_by_one = b"".join([encoder.feed([event]) for event in events]) + encoder.close()
    encoder = WIRE.encoder(model="another", message_id="another")
    assert one_by_one == encoder.feed(events) + encoder.close()
    again, whole = decode_pieces(WIRE, [one_by_one]), decode_pieces(WIRE, [body])
    kept = ("blocks", "stop_reason", "raw_stop_reason", "usage", "complete", "error")
    assert {name: again[name] for name in kept} == {name: whole[name] for name in kept}
    if not recording.expected["inner"] and "jsonl" not in recording.name:
        assert decode_events(one_by_one) == events


def decode_events(body: bytes) -> list[StreamEvent]:
    decoder = WIRE.decoder()
    return [*decoder.feed(body), *decoder.close()]


@pytest.mark.requirement("E1", "E8")
def test_what_is_told_beside_the_answer_is_kept() -> None:
    found: list[Metadata] = []
    for param in recordings("bedrock"):
        if param.values[0] is not None:
            events = decode_events(param.values[0].body(WIRE))
            found += [event for event in events if isinstance(event, Metadata)]
            assert isinstance(events[0], MessageStart) or "jsonl" in param.values[0].name
    if found:
        assert any(event.trace and "guardrail" in event.trace for event in found)
        assert sum(event.latency_ms is not None for event in found) > 10
        told = {name for event in found for name in event.provider_metadata or {}}
        assert told == {"additionalModelResponseFields", "amazon-bedrock-invocationMetrics"}
