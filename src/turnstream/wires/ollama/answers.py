"""Encodes complete (non-streamed) answers of Ollama's `/api/chat`: one JSON object.

`answer_decoder` is the inverse.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from turnstream.core.answers import Answer
from turnstream.core.blocks import Block
from turnstream.wires.ollama.encoder import OpenCall
from turnstream.wires.ollama.usage import dump_stop_reason, write_counts
from turnstream.wires.shared.json_values import JsonObject
from turnstream.wires.shared.lenient_json import encode_json


def encode_answer(answer: Answer) -> bytes:
    """Return the answer as one object."""
    return encode_json(
        {
            "model": answer.model,
            "created_at": "1970-01-01T00:00:00Z",
            "message": _dump_message(answer.blocks),
            "done": True,
            "done_reason": dump_stop_reason(answer.stop) if answer.stop else None,
            **write_counts(answer.usage, answer.raw_usage, None),
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
                call = OpenCall(content)
                call.fragments.append(content.get("input_json") or "")
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
