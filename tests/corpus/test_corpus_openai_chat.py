"""Every recording of the openai-chat wire decodes to its expectation, however its bytes are cut."""

from __future__ import annotations

import gzip
import json
from types import SimpleNamespace
from typing import Any

import pytest

from tests.corpus.recordings import (
    Recording,
    every_cut,
    random_cuts,
    recordings,
    single_bytes,
)
from turnstream.core.stream_events import Metadata, StreamEvent, StreamNotice
from turnstream.wires import WIRES
from turnstream.wires.openai_chat import encoder as openai_chat_encoder
from turnstream.wires.recording import decode_pieces, decode_recording

WIRE = WIRES["openai-chat"]
EVERY_CUT = 4500
"""Bytes up to which a body is cut at every place."""
LONG = 100_000
"""Bytes from which a body is cut at fewer places, since its tens of thousands of events are alike."""

DISPUTED: dict[tuple[str, str], str] = {
    # Snowflake sends the model's reasoning in `reasoning_details` only ("15", " * 27 = 405"). The expectation
    # counts
    # only `reasoning` and `reasoning_content`, and so loses it, though it has the two fragments under
    # `details`.
    ("snowflake/pai-snowflake_thinking_streaming-0.sse", "reasoning"): "15 * 27 = 405",
}
"""(file, field) → the value in the bytes, where the expectation differs."""

STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", None: None}
ERROR_CODES = {"tool_use_failed": "invalid_request_error"}

every_recording = pytest.mark.parametrize("recording", recordings("openai-chat"))


@every_recording
@pytest.mark.requirement("B1", "B3", "E1", "E2", "E3", "E8", "I1")
def test_decodes_to_its_expectation(recording: Recording) -> None:
    expected, entry = recording.expected, recording.entry["expected"]
    choice = expected["choices"][min(expected["choices"])]
    decoded = decode_recording(WIRE, recording.data, file_name=recording.name)
    blocks = decoded["blocks"]
    assert [block["sequence"] for block in blocks] == list(range(len(blocks)))
    assert text_of(blocks, "text") == choice["content"] + choice["refusal"]
    assert text_of(blocks, "thinking") == DISPUTED.get((recording.name, "reasoning"), choice["reasoning"])
    assert [call_shape(block) for block in blocks if block["block_type"] == "tool_use"] == [
        (tool["id"], tool["name"], tool["arguments"]) for tool in choice["tools"]
    ]
    assert {block["block_type"] for block in blocks} <= {"text", "thinking", "tool_use"}
    assert joined(details_of(blocks)) == joined(choice["details"])
    assert decoded["id"] == next(iter(filter(None, entry["ids"])), None)
    assert decoded["model"] == next(filter(None, entry["models"]))
    assert decoded["raw_stop_reason"] == choice["finish_reason"]
    assert decoded["stop_reason"] == STOP_REASONS[choice["finish_reason"]]
    assert decoded["raw_usage"] == expected["usage"]
    assert decoded["usage"] == expected_usage(expected["usage"] or {})
    assert decoded["error"] == expected_error(expected["error"])
    assert decoded["complete"] is (expected["error"] is None)


def test_disputed_expectations_still_say_otherwise() -> None:
    names = {param.values[0].name: param.values[0] for param in recordings("openai-chat") if param.values[0]}
    for (name, field), value in DISPUTED.items():
        if name in names:
            assert names[name].expected["choices"]["0"][field] != value, "the expectation is right now"


@every_recording
@pytest.mark.requirement("B4", "E4")
def test_any_cut_decodes_alike(recording: Recording) -> None:
    body = recording.body(WIRE)
    whole = decode_pieces(WIRE, [body])
    if len(body) <= EVERY_CUT:
        for pieces in every_cut(body):
            assert decode_pieces(WIRE, pieces) == whole
    for cut in random_cuts(body, times=2 if len(body) > LONG else 8, seed=recording.name):
        assert decode_pieces(WIRE, cut) == whole
    if len(body) <= LONG:
        assert decode_pieces(WIRE, single_bytes(body)) == whole


@every_recording
@pytest.mark.requirement("E4")
def test_any_line_end_and_archive_decodes_alike(recording: Recording) -> None:
    body = recording.body(WIRE).replace(b"\r\n", b"\n")
    whole = decode_pieces(WIRE, [body])
    assert decode_pieces(WIRE, [b"\xef\xbb\xbf" + body.replace(b"\n", b"\r\n")]) == whole
    assert decode_pieces(WIRE, [body.replace(b"\n", b"\r")]) == whole
    assert decode_pieces(WIRE, [b": ping\n\n", body.replace(b"\ndata: ", b"\ndata:")]) == whole
    assert (
        decode_pieces(
            WIRE, [b"id: 1\n", body.replace(b"\n\ndata: ", b"\n\nevent: message\nretry: 3\ndata: ")]
        )
        == whole
    )
    packed = gzip.compress(recording.data)
    assert decode_recording(WIRE, packed, file_name=recording.name.upper() + ".GZ") == whole


@every_recording
@pytest.mark.requirement("E1")
def test_the_short_cut_for_plain_events_changes_nothing(recording: Recording) -> None:
    body = recording.body(WIRE)
    slow: Any = WIRE.decoder()
    slow._template_tries = 10**9
    assert slow.feed(body) + close(slow) == decode_events(body)


@every_recording
@pytest.mark.requirement("D6", "P5")
def test_a_body_that_breaks_off_before_its_end_is_never_complete(recording: Recording) -> None:
    body = recording.body(WIRE)
    whole = decode_pieces(WIRE, [body])
    ends = [
        body.find(mark)
        for mark in (b'"finish_reason":"', b'"finish_reason": "', b"[DONE]", b"event: error", b'{"error"')
    ]
    end = min(place for place in [*ends, len(body)] if place >= 0)
    for place in range(0, end, max(1, end // 12)):
        decoded = decode_pieces(WIRE, [body[:place]])
        assert decoded["complete"] is False
        assert decoded["error"]["code"] == "stream_incomplete"
        for block, full in zip(decoded["blocks"], whole["blocks"], strict=False):
            assert block["block_type"] == full["block_type"]
            assert (full["text_content"] or "").startswith(block["text_content"] or "")


@every_recording
@pytest.mark.requirement("E1")
def test_what_the_encoder_writes_decodes_to_the_same_message(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Return all fields but those beside the answer, for which this wire has no field."""
    monkeypatch.setattr(openai_chat_encoder, "time", SimpleNamespace(time=lambda: 1_700_000_000.5))
    events = decode_events(recording.body(WIRE))
    encoder = WIRE.encoder(model="another", message_id="another")
    one_by_one = b"".join([encoder.feed([event]) for event in events]) + encoder.close()
    encoder = WIRE.encoder(model="another", message_id="another")
    assert one_by_one == encoder.feed(events) + encoder.close()
    again = decode_pieces(WIRE, [one_by_one])
    whole = decode_pieces(WIRE, [recording.body(WIRE)])
    kept = {
        name: value
        for name, value in whole.items()
        if name not in ("events", "id", "raw_stop_reason", "stop_reason")
    }
    assert {name: again[name] for name in kept} == merged(kept)
    assert again["id"] == (whole["id"] or "another")
    assert again["raw_stop_reason"] == whole["raw_stop_reason"] or whole["raw_stop_reason"] is None


def merged(decoded: dict[str, Any]) -> dict[str, Any]:
    """The wire has no block boundaries, so adjacent texts become one."""
    blocks: list[dict[str, Any]] = []
    for block in decoded["blocks"]:
        if blocks and block["block_type"] == "text" == blocks[-1]["block_type"]:
            blocks[-1] = {**blocks[-1], "text_content": blocks[-1]["text_content"] + block["text_content"]}
        else:
            blocks.append({**block, "sequence": len(blocks)})
    return {**decoded, "blocks": blocks}


def decode_events(body: bytes) -> list[StreamEvent]:
    decoder = WIRE.decoder()
    return decoder.feed(body) + close(decoder)


def close(decoder: Any) -> list[StreamEvent]:
    return decoder.close()


def text_of(blocks: list[dict[str, Any]], block_type: str) -> str:
    return "".join(block["text_content"] for block in blocks if block["block_type"] == block_type)


def call_shape(block: dict[str, Any]) -> tuple[str, str, str]:
    content = block["content"]
    assert "input_error" not in content
    assert content["input"] == json.loads(content["input_json"])
    return content["tool_use_id"], content["tool_name"], content["input_json"]


def details_of(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [
        ((block["content"] or {}).get("provider_metadata") or {}).get("reasoning_details", [])
        for block in blocks
    ]
    return [detail for details in found for detail in details]


def joined(details: list[dict[str, Any]]) -> dict[str, str]:
    """Return the text of the fragments of reasoning details, by field."""
    fields = ("text", "summary", "data", "signature")
    return {field: "".join(detail.get(field) or "" for detail in details) for field in fields}


def expected_usage(raw: dict[str, Any]) -> dict[str, int | None]:
    prompt, completion = raw.get("prompt_tokens_details") or {}, raw.get("completion_tokens_details") or {}
    return {
        "input_tokens": raw.get("prompt_tokens"),
        "output_tokens": raw.get("completion_tokens"),
        "cache_read_tokens": prompt.get("cached_tokens", raw.get("prompt_cache_hit_tokens")),
        "cache_write_tokens": prompt.get("cache_write_tokens"),
        "reasoning_tokens": completion.get("reasoning_tokens"),
    }


def expected_error(error: dict[str, Any] | None) -> dict[str, str] | None:
    return (
        None
        if error is None
        else {"code": ERROR_CODES.get(error["code"], error["type"]), "message": error["message"]}
    )


def test_other_choices_are_named() -> None:
    for param in recordings("openai-chat"):
        recording = param.values[0]
        if recording is not None and len(recording.expected["choices"]) > 1:
            notices = [
                event for event in decode_events(recording.body(WIRE)) if isinstance(event, StreamNotice)
            ]
            assert [notice.code for notice in notices] == ["other_choices"]
            for index in sorted(recording.expected["choices"])[1:]:
                assert index in notices[0].message


def test_what_vendors_say_beside_the_answer_is_kept() -> None:
    found: set[str] = set()
    for param in recordings("openai-chat"):
        if param.values[0] is not None:
            events = decode_events(param.values[0].body(WIRE))
            found.update(*(event.provider_metadata or {} for event in events if isinstance(event, Metadata)))
    if found:
        assert found >= {
            "provider",
            "native_finish_reason",
            "time_info",
            "moderation",
            "prompt_filter_results",
            "x_groq",
        }
