"""Encodes complete (non-streamed) answers of Ollama's `/api/chat` and `/api/generate`: one JSON object.

`answer_decoder` is the inverse.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from turnstream.core.answers import Answer
from turnstream.core.blocks import Block
from turnstream.wires.ollama.encoder import OpenCall
from turnstream.wires.ollama.usage import dump_stop_reason, durations, write_counts
from turnstream.wires.shared.json_values import JsonObject
from turnstream.wires.shared.lenient_json import encode_json

_NO_TIME = "1970-01-01T00:00:00Z"


def encode_answer(
    answer: Answer, *, created_at: str = _NO_TIME, latency: int | None = None, generated: bool = False
) -> bytes:
    """Return the answer as one object.

    Args:
        answer: The answer.
        created_at: Time of the answer (ISO 8601).
        latency: Time from the request to the answer (nanoseconds). None: durations are the provider's.
        generated: True for `/api/generate`, whose answer has `response` in place of `message`.
    """
    message = _dump_message(answer.blocks)
    if generated:
        shown: JsonObject = {"response": message["content"]}
        shown |= {key: message[key] for key in ("thinking", "images") if key in message}
    else:
        shown = {"message": message}
    return encode_json(
        {
            "model": answer.model,
            "created_at": created_at,
            **shown,
            "done": True,
            "done_reason": dump_stop_reason(answer.stop) if answer.stop else None,
            **write_counts(answer.usage, answer.raw_usage, None),
            **({} if latency is None else durations(latency, 0)),
        }
    )


def _dump_message(blocks: Iterable[Block]) -> JsonObject:
    texts: list[str] = []
    thoughts: list[str] = []
    images: list[str] = []
    calls: list[msgspec.Raw] = []
    for block in blocks:
        content = block.content or {}
        match block.block_type:
            case "text":
                texts.append(block.text_content or "")
            case "thinking":
                thoughts.append(block.text_content or "")
            case "image" if content.get("data"):
                images.append(content["data"])
            case "tool_use" if not content.get("provider_executed"):
                call = OpenCall(content).plus(content.get("input_json") or "")
                calls.append(msgspec.Raw(call.encoded(len(calls))))
            case _:
                pass
    message: JsonObject = {"role": "assistant", "content": "".join(texts)}
    if thought := "".join(thoughts):
        message["thinking"] = thought
    if images:
        message["images"] = images
    if calls:
        message["tool_calls"] = calls
    return message
