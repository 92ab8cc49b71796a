"""Answers of chat.completions that are no streams: one JSON object."""

from __future__ import annotations

from turnstream.core.answers import Answer
from turnstream.core.blocks import Message
from turnstream.wires.lenient_json import encode_json
from turnstream.wires.openai_chat_messages import dump_messages


def encode_answer(answer: Answer) -> bytes:
    """The chat.completion object. Thinking is told as DeepSeek does, in `reasoning_content`."""
    said = [
        m for m in dump_messages((Message("assistant", answer.blocks),), None) if m["role"] == "assistant"
    ]
    thought = "".join(block.text_content or "" for block in answer.blocks if block.block_type == "thinking")
    message = {
        **(said[0] if said else {"role": "assistant", "content": ""}),
        "refusal": None,
        **({"reasoning_content": thought} if thought else {}),
    }
    finish_reason = answer.stop.raw_stop_reason if answer.stop else None
    return encode_json(
        {
            "id": answer.id,
            "object": "chat.completion",
            "created": 0,
            "model": answer.model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}],
            "usage": answer.raw_usage,
        }
    )
