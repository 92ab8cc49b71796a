"""Answers of Ollama's `/api/chat` that are no streams: one JSON object."""

from __future__ import annotations

from turnstream.core.answers import Answer
from turnstream.core.blocks import Message
from turnstream.wires.lenient_json import encode_json
from turnstream.wires.ollama_messages import dump_messages


def encode_answer(answer: Answer) -> bytes:
    """The object that stands for the whole stream."""
    said = [m for m in dump_messages((Message("assistant", answer.blocks),)) if m["role"] == "assistant"]
    thought = "".join(block.text_content or "" for block in answer.blocks if block.block_type == "thinking")
    return encode_json(
        {
            "model": answer.model,
            "created_at": "1970-01-01T00:00:00Z",
            "message": {
                "role": "assistant",
                "content": "",
                **(said[0] if said else {}),
                **({"thinking": thought} if thought else {}),
            },
            "done": True,
            "done_reason": answer.stop.raw_stop_reason if answer.stop else None,
            **(answer.raw_usage or {}),
        }
    )
