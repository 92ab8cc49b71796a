"""Google Gemini's generateContent, of the Gemini API and of Vertex AI: one provider protocol, both ways.

The parts: `gemini_decoder` (with `_framing`, `_chunks`, `_parts`, `_calls`, `_arguments`, `_citations`) and `gemini_encoder`
for the stream; `gemini_requests` (with `_contents`, `_messages`, `_tools`); `gemini_answers`; `gemini_errors`, `_usage` and `_stop_reasons`, used
by all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from turnstream.core.answers import Answer
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import ProviderError
from turnstream.wires.base import DEFAULT_EVENT_LIMIT, Decoder, Encoder, HttpRequest, ModelRequest, Wire
from turnstream.wires.gemini import answers as gemini_answers
from turnstream.wires.gemini import errors as gemini_errors
from turnstream.wires.gemini import requests as gemini_requests
from turnstream.wires.gemini.decoder import GeminiDecoder
from turnstream.wires.gemini.encoder import GeminiEncoder

_ACCESS_TOKEN = "ya29."  # noqa: S105  how Google's access tokens begin, which is no secret


class GeminiWire:
    """See `wires.base.Wire`. `as_array`: answers are encoded as one JSON array; both framings are decoded."""

    def __init__(self, name: str, *, as_array: bool = False) -> None:
        self.name = name
        self.content_type = "application/json" if as_array else "text/event-stream"
        self._as_array = as_array

    def decoder(
        self, *, event_limit: int = DEFAULT_EVENT_LIMIT, on_malformed: Literal["fail", "skip"] = "fail"
    ) -> Decoder:
        return GeminiDecoder(event_limit=event_limit, on_malformed=on_malformed)

    def encoder(self, *, model: str, message_id: str) -> Encoder:
        return GeminiEncoder(model=model, message_id=message_id, as_array=self._as_array)

    def encode_answer(self, answer: Answer) -> bytes:
        return gemini_answers.encode_answer(answer)

    def decode_answer(self, body: bytes) -> list[StreamEvent]:
        return gemini_answers.decode_answer(body)

    def encode_request(self, request: ModelRequest) -> HttpRequest:
        return gemini_requests.encode_request(request)

    def decode_request(self, path: str, body: bytes) -> ModelRequest:
        return gemini_requests.decode_request(path, body)

    def auth_headers(self, api_key: str) -> Mapping[str, str]:
        """An API key, or an access token, as Vertex AI takes them."""
        if api_key.startswith(_ACCESS_TOKEN):
            return {"authorization": f"Bearer {api_key}"}
        return {"x-goog-api-key": api_key}

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return gemini_errors.decode_error(status, headers, body)

    def encode_error(self, error: ProviderError) -> tuple[int, bytes]:
        return gemini_errors.encode_error(error)


WIRE: Wire = GeminiWire("gemini")
ARRAY_WIRE: Wire = GeminiWire("gemini-array", as_array=True)
"""What is answered where nobody asked for `alt=sse`; not a wire to be configured."""
