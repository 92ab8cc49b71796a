"""Anthropic Messages: one provider protocol, both ways.

The parts: `anthropic_decoder` and `anthropic_encoder` (the stream), `anthropic_requests`, `anthropic_errors`, and
`anthropic_blocks`, the shapes of content blocks that all of them share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from turnstream.core.answers import Answer
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import ProviderError
from turnstream.wires.anthropic import answers as anthropic_answers
from turnstream.wires.anthropic import errors as anthropic_errors
from turnstream.wires.anthropic import requests as anthropic_requests
from turnstream.wires.anthropic.decoder import AnthropicDecoder
from turnstream.wires.anthropic.encoder import AnthropicEncoder
from turnstream.wires.base import DEFAULT_EVENT_LIMIT, Decoder, Encoder, HttpRequest, ModelRequest, Wire


class AnthropicWire:
    """See `wires.base.Wire`."""

    name = "anthropic"
    content_type = "text/event-stream"

    def decoder(
        self, *, event_limit: int = DEFAULT_EVENT_LIMIT, on_malformed: Literal["fail", "skip"] = "fail"
    ) -> Decoder:
        return AnthropicDecoder(event_limit=event_limit, on_malformed=on_malformed)

    def encoder(self, *, model: str, message_id: str) -> Encoder:
        return AnthropicEncoder(model=model, message_id=message_id)

    def encode_answer(self, answer: Answer) -> bytes:
        return anthropic_answers.encode_answer(answer)

    def decode_answer(self, body: bytes) -> list[StreamEvent]:
        return anthropic_answers.decode_answer(body)

    def encode_request(self, request: ModelRequest) -> HttpRequest:
        return anthropic_requests.encode_request(request)

    def decode_request(self, path: str, body: bytes) -> ModelRequest:  # noqa: ARG002
        return anthropic_requests.decode_request(body)

    def auth_headers(self, api_key: str) -> Mapping[str, str]:
        return {"x-api-key": api_key}

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return anthropic_errors.decode_error(status, headers, body)

    def encode_error(self, error: ProviderError) -> tuple[int, bytes]:
        return anthropic_errors.encode_error(error)


WIRE: Wire = AnthropicWire()
