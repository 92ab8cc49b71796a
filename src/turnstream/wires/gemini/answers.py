"""Answers of Gemini that are no streams: one `GenerateContentResponse`."""

from __future__ import annotations

from turnstream.core.answers import Answer
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import MalformedEvent
from turnstream.wires.base import DEFAULT_EVENT_LIMIT
from turnstream.wires.gemini.contents import dump_answer
from turnstream.wires.gemini.decoder import GeminiDecoder
from turnstream.wires.gemini.stop_reasons import dump_stop_reason
from turnstream.wires.gemini.usage import write_usage
from turnstream.wires.shared.json_values import JsonObject
from turnstream.wires.shared.lenient_json import encode_json


def encode_answer(answer: Answer) -> bytes:
    """The response object."""
    parts = dump_answer(answer.blocks)
    candidate: JsonObject = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if answer.stop is not None:
        candidate["finishReason"] = dump_stop_reason(answer.stop)
    body: JsonObject = {"candidates": [candidate]}
    usage = write_usage(answer.usage, answer.raw_usage)
    if usage is not None:
        body["usageMetadata"] = usage
    return encode_json({**body, "modelVersion": answer.model, "responseId": answer.id})


def decode_answer(body: bytes) -> list[StreamEvent]:
    """The events that the answer's stream would have had. Raises MalformedEvent for what is no answer."""
    decoder = GeminiDecoder(event_limit=max(DEFAULT_EVENT_LIMIT, len(body)), on_malformed="fail")
    events = decoder.feed(body.strip())
    if not decoder.found_answer and not events:
        raise MalformedEvent("the answer is no GenerateContentResponse")
    return events + decoder.end_answer()
