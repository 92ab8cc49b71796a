"""Encodes complete (non-streamed) answers of Gemini: one `GenerateContentResponse`.

`answer_decoder` is the inverse.
"""

from __future__ import annotations

from turnstream.core.answers import Answer
from turnstream.wires.gemini.messages import dump_answer
from turnstream.wires.gemini.stop_reasons import dump_stop_reason
from turnstream.wires.gemini.usage import write_usage
from turnstream.wires.shared.json_values import JsonObject
from turnstream.wires.shared.lenient_json import encode_json


def encode_answer(answer: Answer) -> bytes:
    """Return the response object."""
    parts = dump_answer(answer.blocks)
    candidate: JsonObject = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if answer.stop is not None:
        candidate["finishReason"] = dump_stop_reason(answer.stop)
    body: JsonObject = {"candidates": [candidate]}
    usage = write_usage(answer.usage, answer.raw_usage)
    if usage is not None:
        body["usageMetadata"] = usage
    return encode_json({**body, "modelVersion": answer.model, "responseId": answer.id})
