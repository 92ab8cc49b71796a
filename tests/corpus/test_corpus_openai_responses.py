"""Every recording of the openai-responses wire decodes to its expectation, however its bytes are cut."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from typing import Any

import pytest

from tests.corpus.recordings import Recording, every_cut, random_cuts, recordings, single_bytes
from turnstream.core.answers import fold_answer
from turnstream.core.blocks import Block, Message
from turnstream.core.stream_events import StreamEvent, StreamNotice
from turnstream.wires.base import ModelRequest
from turnstream.wires.openai_responses import wire as openai_responses
from turnstream.wires.recording import decode_pieces, decode_recording, fold_pieces

WIRE = openai_responses.WIRE
EVERY_CUT = 4000
"""Bytes up to which a body is cut at every place."""
LONG = 60_000
"""Bytes from which a body is cut at fewer places, since its thousands of events are alike."""

DISPUTED: dict[tuple[str, str], str] = {
    # The recording was written by hand: its deltas end the sentence with a period where its `done` events
    # continue. A client has shown the period by then. So the deltas hold, and a notice reports it.
    ("openai/vai-openai-shell-container.1.jsonl", "text"): "The command ran successfully.",
}
"""(file, field) → the text in the bytes, where the expectation has another text."""

CLIENT_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
ENCRYPTED = ("encrypted_content", "fingerprint")
SPLIT = {"code_interpreter_call": ["tool_use", "tool_result"], "image_generation_call": ["image"]}

every_recording = pytest.mark.parametrize("recording", recordings("openai-responses"))


@every_recording
@pytest.mark.requirement("B1", "B3", "B5", "E1", "E2", "E3", "I1")
def test_decodes_to_its_expectation(recording: Recording) -> None:
    expected, entry = recording.expected, recording.entry["expected"]
    decoded = decode_recording(WIRE, recording.data, file_name=recording.name)
    blocks = decoded["blocks"]
    assert [block["sequence"] for block in blocks] == list(range(len(blocks)))
    text = DISPUTED.get((recording.name, "text"))
    said = text_of(blocks, "text")
    if text is None:
        assert hashlib.sha256(said.encode()).hexdigest()[:16] == entry["text_sha"]
    else:
        assert said == text != "".join(text_of_item(item) for item in expected["output"])
    assert text_of(blocks, "thinking") == "".join(expected["reasoning"].values())
    assert sorted(map(str, shapes(blocks))) == sorted(map(str, expected_shapes(expected["output"])))
    assert decoded["id"] == entry["id"]
    assert decoded["model"] == entry["model"]
    assert decoded["raw_stop_reason"] == entry["status"] == "completed"
    calls = [tool for tool in entry["tools"] if tool["type"] in CLIENT_CALLS]
    runs_itself = all(str(call["call_id"]).startswith("xs_call_") for call in calls)
    assert decoded["stop_reason"] == ("tool_use" if calls and not runs_itself else "end_turn")
    assert decoded["raw_usage"] == expected["usage"]
    assert decoded["usage"] == expected_usage(expected["usage"])
    assert decoded["error"] is None
    assert decoded["complete"] is True


@every_recording
@pytest.mark.requirement("B4", "E4")
def test_any_cut_decodes_alike(recording: Recording) -> None:
    body = recording.body(WIRE)
    whole = decode_pieces(WIRE, [body])
    if len(body) <= EVERY_CUT:
        for pieces in every_cut(body):
            assert decode_pieces(WIRE, pieces) == whole
    for cut in random_cuts(body, times=2 if len(body) > LONG else 6, seed=recording.name):
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
    assert decode_pieces(WIRE, [body + b"data: [DONE]\n\n"]) == whole
    packed = gzip.compress(recording.data)
    assert decode_recording(WIRE, packed, file_name=recording.name.upper() + ".GZ") == whole


@every_recording
@pytest.mark.requirement("D6", "P5")
def test_a_body_that_breaks_off_is_never_complete(recording: Recording) -> None:
    body = recording.body(WIRE)
    whole = decode_pieces(WIRE, [body])
    end = body.index(b"response.completed")
    for place in range(0, end, max(1, end // 12)):
        decoded = decode_pieces(WIRE, [body[:place]])
        assert decoded["complete"] is False
        assert decoded["error"]["code"] == "stream_incomplete"
        for block, full in zip(decoded["blocks"], whole["blocks"], strict=False):
            assert block["block_type"] == full["block_type"]
            assert (full["text_content"] or "").startswith(block["text_content"] or "")


CREATED = rb'"created_at":\d+'
"""Second of the encoder's creation."""


@every_recording
@pytest.mark.requirement("E1")
def test_what_the_encoder_writes_decodes_to_the_same_message(recording: Recording) -> None:
    events = decode_events(recording.body(WIRE))
    encoder = WIRE.encoder(model="another", message_id="another")
    one_by_one = b"".join([encoder.feed([event]) for event in events]) + encoder.close()
    encoder = WIRE.encoder(model="another", message_id="another")
    at_once = encoder.feed(events) + encoder.close()
    assert re.sub(CREATED, b"", one_by_one) == re.sub(CREATED, b"", at_once)
    again = decode_pieces(WIRE, [one_by_one])
    whole = decode_pieces(WIRE, [recording.body(WIRE)])
    assert {**again, "events": None} == {**whole, "events": None}


@every_recording
@pytest.mark.requirement("E1")
def test_the_same_answer_without_a_stream_is_the_same_message(recording: Recording) -> None:
    answer = fold_answer(decode_events(recording.body(WIRE)))
    again = fold_answer(WIRE.decode_answer(WIRE.encode_answer(answer)))
    assert again == answer


@every_recording
@pytest.mark.requirement("B3", "F1")
def test_the_items_of_an_answer_go_back_as_they_came(recording: Recording) -> None:
    fold, _ = fold_pieces(WIRE, [recording.body(WIRE)])
    blocks = tuple(
        Block(block.sequence, block.block_type, block.text_content, block.content)
        for block in fold.finish().blocks
    )
    request = ModelRequest("model", (Message("assistant", blocks),), params={"store": True})
    written = json.loads(WIRE.encode_request(request).body)["input"]
    output = recording.expected["output"]
    expected = [sent(item) for item in output if text_of_item(item) or item["type"] != "message"]
    if "copilot" in recording.name:  # every event has another id there
        written, expected = without_ids(written), without_ids(expected)
    if (recording.name, "text") in DISPUTED:
        written, expected = written[:-1], expected[:-1]
    assert sorted(map(canonical, map(sent, written))) == sorted(map(canonical, expected))


def test_a_final_text_that_differs_is_noticed() -> None:
    for param in recordings("openai-responses"):
        recording = param.values[0]
        if recording is not None and (recording.name, "text") in DISPUTED:
            notices = [
                event for event in decode_events(recording.body(WIRE)) if isinstance(event, StreamNotice)
            ]
            assert [notice.code for notice in notices] == ["text_differs"]


def decode_events(body: bytes) -> list[StreamEvent]:
    decoder = WIRE.decoder()
    return decoder.feed(body) + decoder.close()


def text_of(blocks: list[dict[str, Any]], block_type: str) -> str:
    return "".join(block["text_content"] for block in blocks if block["block_type"] == block_type)


def text_of_item(item: dict[str, Any]) -> str:
    if item["type"] != "message":
        return ""
    return "".join(part.get("text", part.get("refusal", "")) for part in item["content"])


def shapes(blocks: list[dict[str, Any]]) -> list[Any]:
    """Return the blocks that are not text or thinking: calls by their fields, raw items unchanged."""
    found: list[Any] = []
    for block in blocks:
        content: dict[str, Any] = block["content"] or {}
        match block["block_type"]:
            case "tool_use":
                assert "input_error" not in content
                name, text = content["tool_name"], content["input_json"]
                found.append(("tool_use", content["tool_use_id"], name, text))
                assert content["input"] in ({"input": text}, {"code": text}) or content[
                    "input"
                ] == json.loads(text)
            case "tool_result":
                assert content["provider_executed"] is True
                found.append(("tool_result", content["tool_use_id"], content["content"]))
            case "image":
                found.append(("image", content["data"]))
            case "provider":
                found.append(sent(content))
            case other:
                assert other in ("text", "thinking")
        found.extend(content.get("citations", []))
    return found


def expected_shapes(output: list[dict[str, Any]]) -> list[Any]:
    found: list[Any] = []
    for item in output:
        match item["type"]:
            case "message":
                for part in item["content"]:
                    found.extend(part.get("annotations", []))
            case "reasoning":
                pass
            case "function_call" | "custom_tool_call" as kind:
                found.append(("tool_use", item["call_id"], item["name"], item[CLIENT_CALLS[kind]]))
            case "code_interpreter_call":
                found.append(("tool_use", item["id"], "code_interpreter", item["code"]))
                found.extend(
                    [("tool_result", item["id"], item["outputs"])] if item["outputs"] is not None else []
                )
            case "image_generation_call":
                found.append(("image", item["result"]))
            case _:
                found.append(sent(item))
    return found


def sent(item: dict[str, Any]) -> dict[str, Any]:
    """Return an output item as an input item, without the fields that only a provider writes. Encrypted
    values differ in every event."""
    item = {
        key: "encrypted" if key in ENCRYPTED else value
        for key, value in item.items()
        if value is not None and (key, value) != ("content", [])
    }
    if item["type"] in ("message", "reasoning", "function_call", "custom_tool_call", *SPLIT):
        item.pop("status", None)
    if item["type"] == "message":
        item["content"] = [
            {key: value for key, value in part.items() if key != "logprobs"} for part in item["content"]
        ]
    return item


def without_ids(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in item.items() if key != "id"} for item in items]


def canonical(item: dict[str, Any]) -> str:
    return json.dumps(item, sort_keys=True)


def expected_usage(raw: dict[str, Any]) -> dict[str, int | None]:
    return {
        "input_tokens": raw["input_tokens"],
        "output_tokens": raw["output_tokens"],
        "cache_read_tokens": raw["input_tokens_details"]["cached_tokens"],
        "cache_write_tokens": raw["input_tokens_details"].get("cache_write_tokens"),
        "reasoning_tokens": raw["output_tokens_details"]["reasoning_tokens"],
    }
