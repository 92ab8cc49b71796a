"""Ollama's own protocol, `/api/chat`, both ways.

The parts: `ollama_decoder` (with `_lines`, `_calls`, `_repetition`) and `ollama_encoder` for the stream; `ollama_requests`
and `_messages`; `ollama_errors` and `_usage`, used by all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from turnstream.core.answers import Answer
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import ProviderError
from turnstream.wires.base import DEFAULT_EVENT_LIMIT, Decoder, Encoder, HttpRequest, ModelRequest, Wire
from turnstream.wires.ollama import answers as ollama_answers
from turnstream.wires.ollama import errors as ollama_errors
from turnstream.wires.ollama import requests as ollama_requests
from turnstream.wires.ollama.decoder import OllamaDecoder
from turnstream.wires.ollama.encoder import OllamaEncoder


class OllamaWire:
    """See `wires.base.Wire`. The base URL is the server's, as in `http://127.0.0.1:11434`."""

    name = "ollama"
    content_type = "application/x-ndjson"

    def decoder(
        self, *, event_limit: int = DEFAULT_EVENT_LIMIT, on_malformed: Literal["fail", "skip"] = "fail"
    ) -> Decoder:
        return OllamaDecoder(event_limit=event_limit, on_malformed=on_malformed)

    def encoder(self, *, model: str, message_id: str) -> Encoder:  # noqa: ARG002
        return OllamaEncoder(model=model)

    def encode_answer(self, answer: Answer) -> bytes:
        return ollama_answers.encode_answer(answer)

    def decode_answer(self, body: bytes) -> list[StreamEvent]:
        return ollama_answers.decode_answer(body)

    def encode_request(self, request: ModelRequest) -> HttpRequest:
        return ollama_requests.encode_request(request)

    def decode_request(self, path: str, body: bytes) -> ModelRequest:  # noqa: ARG002
        return ollama_requests.decode_request(body)

    def auth_headers(self, api_key: str) -> Mapping[str, str]:
        return {"authorization": f"Bearer {api_key}"}

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return ollama_errors.decode_error(status, headers, body)

    def encode_error(self, error: ProviderError) -> tuple[int, bytes]:
        return ollama_errors.encode_error(error)


WIRE: Wire = OllamaWire()
