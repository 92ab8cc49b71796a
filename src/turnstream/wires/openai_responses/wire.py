"""OpenAI Responses and the vendors that speak it: one provider protocol, both ways.

The parts: `openai_responses_decoder` (with `_events`, `_output` and `_parts`) and `openai_responses_encoder` (with `_written`)
for the stream; `openai_responses_requests`, `_input` and `_history`; `openai_responses_items`, the shapes of items that all of them share, and what
becomes of each; `openai_responses_usage` and `_stop_reasons`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from turnstream.core.answers import Answer
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import ProviderError
from turnstream.wires.base import DEFAULT_EVENT_LIMIT, HttpRequest, ModelRequest, Position
from turnstream.wires.openai_responses import answers as openai_responses_answers
from turnstream.wires.openai_responses import requests as openai_responses_requests
from turnstream.wires.openai_responses.decoder import OpenAIResponsesDecoder
from turnstream.wires.openai_responses.encoder import OpenAIResponsesEncoder
from turnstream.wires.shared import openai_errors


class OpenAIResponsesWire:
    """See `wires.base.Wire`. The base URL includes the version, as in `https://api.openai.com/v1`.

    `background`: what its encoders write are responses that the provider keeps.
    """

    name = "openai-responses"
    content_type = "text/event-stream"

    def __init__(self, *, background: bool = False) -> None:
        self._background = background

    def decoder(
        self, *, event_limit: int = DEFAULT_EVENT_LIMIT, on_malformed: Literal["fail", "skip"] = "fail"
    ) -> OpenAIResponsesDecoder:
        return OpenAIResponsesDecoder(event_limit=event_limit, on_malformed=on_malformed)

    def encoder(self, *, model: str, message_id: str) -> OpenAIResponsesEncoder:
        return OpenAIResponsesEncoder(model=model, message_id=message_id, background=self._background)

    def encode_answer(self, answer: Answer) -> bytes:
        return openai_responses_answers.encode_answer(answer, background=self._background)

    def decode_answer(self, body: bytes) -> list[StreamEvent]:
        """The events that a whole answer would have had as a stream. Raises MalformedEvent for what is none."""
        return openai_responses_answers.decode_answer(body)

    def encode_request(self, request: ModelRequest) -> HttpRequest:
        return openai_responses_requests.encode_request(request)

    def decode_request(self, path: str, body: bytes) -> ModelRequest:  # noqa: ARG002
        return openai_responses_requests.decode_request(body)

    def encode_resume(self, position: Position) -> HttpRequest:
        """The request for the rest of a background response, whose decoder is told by `reattach`."""
        return openai_responses_requests.encode_resume(position)

    def auth_headers(self, api_key: str) -> Mapping[str, str]:
        return {"authorization": f"Bearer {api_key}"}

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return openai_errors.decode_error(status, headers, body)

    def encode_error(self, error: ProviderError) -> tuple[int, bytes]:
        return openai_errors.encode_error(error)


WIRE = OpenAIResponsesWire()
