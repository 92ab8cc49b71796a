"""Decodes whole answers of Responses into StreamEvents."""

from __future__ import annotations

from typing import Any

from turnstream.core.stream_events import StreamEvent
from turnstream.errors import MalformedEvent
from turnstream.wires.base import DEFAULT_EVENT_LIMIT
from turnstream.wires.openai_responses.decoder import OpenAIResponsesDecoder
from turnstream.wires.shared.json_values import is_list, is_object, read_json
from turnstream.wires.shared.lenient_json import replace_surrogates
from turnstream.wires.shared.openai_errors import ERRORS


def decode_answer(body: bytes) -> list[StreamEvent]:
    """Return the events that a stream of this answer would have. Raises MalformedEvent if the body is not a
    response."""
    value: Any = replace_surrogates(read_json(body))
    if not is_object(value) or not is_list(value.get("output")):
        if (reported := ERRORS.read(value)) is None:
            raise MalformedEvent("the answer is not a response object")
        return [ERRORS.stream_error(reported)]
    decoder = OpenAIResponsesDecoder(event_limit=max(DEFAULT_EVENT_LIMIT, len(body)), on_malformed="fail")
    return decoder.take_whole(value)
