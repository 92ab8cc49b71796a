"""Encodes complete (non-streamed) answers of Converse: one JSON object. `answer_decoder` is the inverse."""

from __future__ import annotations

from turnstream.core.answers import Answer
from turnstream.core.blocks import Block
from turnstream.wires.bedrock.blocks import returned_block
from turnstream.wires.bedrock.stop_reasons import dump_stop_reason
from turnstream.wires.bedrock.usage import with_total
from turnstream.wires.shared.json_values import JsonObject
from turnstream.wires.shared.lenient_json import encode_json


def encode_answer(answer: Answer) -> bytes:
    """Return Converse's response. Its latency is 0 and it has no trace, because an Answer lacks them."""
    content = [raw for block in answer.blocks if (raw := _dump_block(block)) is not None]
    return encode_json(
        {
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": dump_stop_reason(answer.stop) if answer.stop else None,
            "usage": with_total(answer.raw_usage or {}),
            "metrics": {"latencyMs": 0},
        }
    )


def _dump_block(block: Block) -> JsonObject | None:
    """Return a block of the answer. Unlike a block of a history, thinking may lack a signature."""
    if block.block_type == "thinking" and not (block.content or {}).keys() & {"signature", "redacted"}:
        return {"reasoningContent": {"reasoningText": {"text": block.text_content or ""}}}
    return returned_block(block)
