"""Answers of Anthropic Messages that are no streams: one JSON object."""

from __future__ import annotations

from turnstream.core.answers import Answer
from turnstream.core.blocks import Message
from turnstream.wires.anthropic_requests import dump_messages
from turnstream.wires.lenient_json import encode_json


def encode_answer(answer: Answer) -> bytes:
    """The message object."""
    said = [m for m in dump_messages((Message("assistant", answer.blocks),)) if m["role"] == "assistant"]
    stop = answer.stop
    return encode_json(
        {
            "id": answer.id,
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "content": said[0]["content"] if said else [],
            "stop_reason": stop.raw_stop_reason if stop else None,
            "stop_sequence": stop.stop_sequence if stop else None,
            "usage": answer.raw_usage or {},
        }
    )
