"""Encodes complete (non-streamed) answers of Anthropic Messages: one JSON object.

`answer_decoder` is the inverse.
"""

from __future__ import annotations

from turnstream.core.answers import Answer
from turnstream.core.blocks import Block
from turnstream.wires.anthropic.blocks import RawBlock, dump_block, is_expressible
from turnstream.wires.anthropic.stop_reasons import dump_stop
from turnstream.wires.anthropic.usage import dump_usage
from turnstream.wires.shared.lenient_json import encode_json


def encode_answer(answer: Answer, *, stop_sequence: str | None = None) -> bytes:
    """Return the message object. It contains every block, also those that a history would leave out.

    `stop_sequence`: as in `dump_stop`.
    """
    return encode_json(
        {
            "id": answer.id,
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "content": [
                _dump(block) for block in answer.blocks if is_expressible(block.block_type, block.content)
            ],
            **dump_stop(answer.stop, stop_sequence),
            "usage": dump_usage(answer.usage, answer.raw_usage),
        }
    )


def _dump(block: Block) -> RawBlock:
    content = block.content or {}
    raw = dump_block(block.block_type, content, block.text_content or "")
    if block.block_type == "tool_use" and content.get("input") is None:
        raw["input"] = content.get("input_json", "")
    return raw
