"""Every recording of the gemini wire, in both framings, decodes to its expectation, however its bytes are
cut."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.corpus.recordings import Recording, every_cut, random_cuts, recordings, single_bytes
from turnstream.core.stream_events import StreamEvent
from turnstream.wires import WIRES
from turnstream.wires.recording import decode_pieces, decode_recording

WIRE = WIRES["gemini"]

DISPUTED: dict[tuple[str, str], Any] = {}
"""(file, field) → the value in the bytes, where the expectation differs. There is none."""

SHORT = 1000
"""Bytes up to which a body is cut at every place."""
STOP_REASONS = {"STOP": "end_turn", "MAX_TOKENS": "max_tokens", "SAFETY": "content_filtered"}

every_recording = pytest.mark.parametrize("recording", recordings("gemini"))


@every_recording
@pytest.mark.requirement("B1", "B3", "E1", "E2", "E3", "I1")
def test_decodes_to_its_expectation(recording: Recording) -> None:
    expected, entry = recording.expected, recording.entry["expected"]
    decoded = decode_recording(WIRE, recording.data, file_name=recording.name)
    blocks = decoded["blocks"]
    assert [block["sequence"] for block in blocks] == list(range(len(blocks)))
    assert text_of(blocks, "text") == DISPUTED.get((recording.name, "text"), expected["text"])
    assert text_of(blocks, "thinking") == expected["thought"]
    calls = [block["content"] for block in blocks if is_call(block)]
    assert [(call["tool_name"], call["input"]) for call in calls] == [
        (call["name"], call["args"]) for call in expected["calls"]
    ]
    for call, said in zip(calls, expected["calls"], strict=True):
        assert call["tool_use_id"] == said.get("id", call["tool_use_id"])
        assert json.loads(call["input_json"] or "{}") == call["input"]
    assert len({call["tool_use_id"] for call in calls}) == len(calls)
    assert decoded["model"] == entry["model"]
    assert decoded["raw_usage"] == expected["usage"]
    assert decoded["usage"] == expected_usage(expected["usage"])
    assert decoded["raw_stop_reason"] == (entry["finish_reason"] or entry["block_reason"])
    stop = STOP_REASONS[decoded["raw_stop_reason"]]
    assert decoded["stop_reason"] == ("tool_use" if calls and stop == "end_turn" else stop)
    assert decoded["error"] is None
    assert decoded["complete"] is True


@every_recording
@pytest.mark.requirement("B3", "B5")
def test_every_signature_stays_with_its_part(recording: Recording) -> None:
    sent = [signed_part(part) for part in parts_of(recording) if "thoughtSignature" in part]
    decoded = decode_recording(WIRE, recording.data, file_name=recording.name)
    kept: list[tuple[str, str, str]] = []
    for block in decoded["blocks"]:
        content = block["content"] or {}
        metadata = content.get("provider_metadata", {})
        signature = metadata.get("thoughtSignature") or content.get("thoughtSignature")
        if signature:
            start, end = metadata.get("signed", (0, 0))
            text = (block["text_content"] or "")[start:end]
            kept.append((signature, metadata.get("part") or own_part(block), text))
    assert kept == sent
    assert len(kept) == recording.entry["expected"]["thought_signatures"]


@every_recording
@pytest.mark.requirement("B4", "E4")
def test_any_cut_decodes_alike(recording: Recording) -> None:
    body = recording.body(WIRE)
    whole = decode_pieces(WIRE, [body])
    if len(body) <= SHORT:
        for pieces in every_cut(body):
            assert decode_pieces(WIRE, pieces) == whole
    for place in range(1, len(body), max(1, len(body) // 100)):
        assert decode_pieces(WIRE, [body[:place], body[place:]]) == whole
    for cut in random_cuts(body, times=8, seed=recording.name):
        assert decode_pieces(WIRE, cut) == whole
    assert decode_pieces(WIRE, single_bytes(body)) == whole


@every_recording
@pytest.mark.requirement("E4")
def test_any_line_end_archive_and_framing_decodes_alike(recording: Recording) -> None:
    body = recording.body(WIRE)
    whole = decode_pieces(WIRE, [body])
    plain = body.replace(b"\r\n", b"\n")
    assert decode_pieces(WIRE, [b"\xef\xbb\xbf" + plain.replace(b"\n", b"\r\n")]) == whole
    assert decode_pieces(WIRE, [b"\n \r\n" + plain.replace(b"\n", b"\r")]) == whole
    packed = gzip.compress(recording.data)
    assert decode_recording(WIRE, packed, file_name=recording.name.upper() + ".GZ") == whole
    chunks = chunks_of(recording)
    for framed in (
        b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks),
        b"[" + b",\r\n".join(json.dumps(chunk).encode() for chunk in chunks) + b"]",
        json.dumps(chunks, indent=2).encode(),
        b"\n".join(json.dumps(chunk, ensure_ascii=False, indent=1).encode() for chunk in chunks),
    ):
        assert same_message(decode_pieces(WIRE, [framed]), whole)


@every_recording
@pytest.mark.requirement("D6", "P5")
def test_a_body_that_breaks_off_is_never_complete(recording: Recording) -> None:
    body = recording.body(WIRE)
    whole = decode_pieces(WIRE, [body])
    end = body.rindex(b"finishReason")
    ends = [place for place in range(end) if body.startswith((b"\n\n", b"\n}"), place)]
    for place in [*range(0, end, max(1, end // 40)), *ends]:
        decoded = decode_pieces(WIRE, [body[:place]])
        assert decoded["complete"] is False
        assert decoded["error"]["code"] == "stream_incomplete"
        for block, full in zip(decoded["blocks"], whole["blocks"], strict=False):
            assert block["block_type"] == full["block_type"]
            assert (full["text_content"] or "").startswith(block["text_content"] or "")


@every_recording
@pytest.mark.requirement("E1")
def test_what_the_encoder_writes_decodes_to_the_same_message(recording: Recording) -> None:
    whole = decode_pieces(WIRE, [recording.body(WIRE)])
    events = events_of(recording)
    encoder = WIRE.encoder(model="another", message_id="another")
    one_by_one = b"".join([encoder.feed([event]) for event in events]) + encoder.close()
    encoder = WIRE.encoder(model="another", message_id="another")
    assert one_by_one == encoder.feed(events) + encoder.close()
    again = decode_pieces(WIRE, [one_by_one])
    for decoded in (again, whole):
        for block in decoded["blocks"]:
            metadata = (block["content"] or {}).get("provider_metadata") or {}
            metadata.pop("signed", None)  # what is signed was written already: the signature follows it
            if (block["content"] or {}).get("citations"):
                block["content"]["citations"] = len(block["content"]["citations"])
    assert same_message(again, whole, except_for=("citations",))


def events_of(recording: Recording) -> list[StreamEvent]:
    decoder = WIRE.decoder()
    return [*decoder.feed(recording.body(WIRE)), *decoder.close()]


def chunks_of(recording: Recording) -> list[dict[str, Any]]:
    body = recording.body(WIRE)
    if body.lstrip().startswith(b"["):
        return json.loads(body)
    lines = body.decode().splitlines()
    return [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")]


def parts_of(recording: Recording) -> list[dict[str, Any]]:
    return [
        part
        for chunk in chunks_of(recording)
        for candidate in chunk.get("candidates", [])
        for part in candidate.get("content", {}).get("parts", [])
    ]


def signed_part(part: dict[str, Any]) -> tuple[str, str, str]:
    kind = next(name for name in part if name not in ("thoughtSignature", "thought"))
    return part["thoughtSignature"], kind, part.get("text", "")


def own_part(block: dict[str, Any]) -> str:
    return {"text": "text", "tool_use": "functionCall", "provider": "text"}[block["block_type"]]


def is_call(block: dict[str, Any]) -> bool:
    return block["block_type"] == "tool_use" and not block["content"].get("provider_executed")


def text_of(blocks: list[dict[str, Any]], block_type: str) -> str:
    return "".join(block["text_content"] for block in blocks if block["block_type"] == block_type)


def same_message(one: dict[str, Any], other: dict[str, Any], except_for: tuple[str, ...] = ()) -> bool:
    def shape(decoded: dict[str, Any]) -> dict[str, Any]:
        blocks = [
            {
                **block,
                "content": {k: v for k, v in (block["content"] or {}).items() if k not in except_for} or None,
            }
            for block in decoded["blocks"]
        ]
        return {**decoded, "events": None, "blocks": blocks}

    assert shape(one) == shape(other)
    return True


def expected_usage(raw: dict[str, Any]) -> dict[str, int | None]:
    def total(*names: str) -> int | None:
        counts = [raw[name] for name in names if name in raw]
        return sum(counts) if counts else None

    return {
        "input_tokens": total("promptTokenCount", "toolUsePromptTokenCount"),
        "output_tokens": total("candidatesTokenCount", "thoughtsTokenCount"),
        "cache_read_tokens": raw.get("cachedContentTokenCount"),
        "cache_write_tokens": None,
        "reasoning_tokens": raw.get("thoughtsTokenCount"),
    }
