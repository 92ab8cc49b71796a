"""OpenAI Chat Completions and the vendors that speak it: one provider protocol, both ways.

The parts: `openai_chat_decoder` and `openai_chat_encoder` for the stream. The decoder reads a chunk (`_chunks`, `_loose`,
short cuts in `_template` and `_lean`), picks the answer (`_choices`) and builds its blocks (`_blocks`, with `_calls`,
`_reasoning`, `_thinking_blocks` and `_extras`); `openai_chat_requests` and `_messages`; `openai_chat_usage` and `_stop_reasons`, used by all; `openai_errors`, which both wires of OpenAI share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from turnstream.core.answers import Answer
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import ProviderError
from turnstream.wires.base import DEFAULT_EVENT_LIMIT, Decoder, Encoder, HttpRequest, ModelRequest, Wire
from turnstream.wires.openai_chat import answers as openai_chat_answers
from turnstream.wires.openai_chat import requests as openai_chat_requests
from turnstream.wires.openai_chat.decoder import OpenAIChatDecoder
from turnstream.wires.openai_chat.encoder import OpenAIChatEncoder
from turnstream.wires.shared import openai_errors


class OpenAIChatWire:
    """See `wires.base.Wire`. The base URL includes the version, as in `https://api.openai.com/v1`."""

    name = "openai-chat"
    content_type = "text/event-stream"

    def decoder(
        self, *, event_limit: int = DEFAULT_EVENT_LIMIT, on_malformed: Literal["fail", "skip"] = "fail"
    ) -> Decoder:
        return OpenAIChatDecoder(event_limit=event_limit, on_malformed=on_malformed)

    def encoder(self, *, model: str, message_id: str) -> Encoder:
        return OpenAIChatEncoder(model=model, message_id=message_id)

    def encode_answer(self, answer: Answer) -> bytes:
        return openai_chat_answers.encode_answer(answer)

    def decode_answer(self, body: bytes) -> list[StreamEvent]:
        return openai_chat_answers.decode_answer(body)

    def encode_request(self, request: ModelRequest) -> HttpRequest:
        return openai_chat_requests.encode_request(request)

    def decode_request(self, path: str, body: bytes) -> ModelRequest:  # noqa: ARG002
        return openai_chat_requests.decode_request(body)

    def auth_headers(self, api_key: str) -> Mapping[str, str]:
        return {"authorization": f"Bearer {api_key}"}

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return openai_errors.decode_error(status, headers, body)

    def encode_error(self, error: ProviderError) -> tuple[int, bytes]:
        return openai_errors.encode_error(error)


WIRE: Wire = OpenAIChatWire()
