"""Amazon Bedrock: ConverseStream and Converse, one provider protocol, both ways.

The parts: `event_stream` (the binary framing), which is AWS's and no wire's, `bedrock_decoder` and `bedrock_encoder` (the stream), `bedrock_requests`
with `bedrock_params`, `bedrock_answers`, `bedrock_errors`, and `bedrock_blocks` with `bedrock_tools`, the shapes of
content blocks that all of them share. What is signed, and how, is `providers.signing`.

Decoding needs botocore, the extra `bedrock`; without it `decoder` raises ConfigurationError.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from turnstream.core.answers import Answer
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import ProviderError
from turnstream.wires.base import DEFAULT_EVENT_LIMIT, Decoder, Encoder, HttpRequest, ModelRequest, Wire
from turnstream.wires.bedrock import answers as bedrock_answers
from turnstream.wires.bedrock import errors as bedrock_errors
from turnstream.wires.bedrock import requests as bedrock_requests
from turnstream.wires.bedrock.decoder import BedrockDecoder
from turnstream.wires.bedrock.encoder import BedrockEncoder
from turnstream.wires.shared.event_stream import CONTENT_TYPE


class BedrockWire:
    """See `wires.base.Wire`. `claude`: the wire that Claude's own requests and events are of, which InvokeModel carries
    in Bedrock's envelope. It is given, since wires do not know each other."""

    name = "bedrock"
    content_type = CONTENT_TYPE

    def __init__(self, claude: Wire) -> None:
        self._claude = claude

    def decoder(
        self, *, event_limit: int = DEFAULT_EVENT_LIMIT, on_malformed: Literal["fail", "skip"] = "fail"
    ) -> Decoder:
        def new_claude() -> Decoder:
            return self._claude.decoder(event_limit=event_limit, on_malformed=on_malformed)

        return BedrockDecoder(event_limit=event_limit, on_malformed=on_malformed, claude=new_claude)

    def encoder(self, *, model: str, message_id: str) -> Encoder:  # noqa: ARG002
        return BedrockEncoder()

    def encode_answer(self, answer: Answer) -> bytes:
        return bedrock_answers.encode_answer(answer)

    def decode_answer(self, body: bytes) -> list[StreamEvent]:
        """The events that the stream of a whole answer would have had. Raises MalformedEvent for what is none."""
        return bedrock_answers.decode_answer(body)

    def encode_request(self, request: ModelRequest) -> HttpRequest:
        return bedrock_requests.encode_request(request, self._claude)

    def decode_request(self, path: str, body: bytes) -> ModelRequest:
        return bedrock_requests.decode_request(path, body, self._claude)

    def auth_headers(self, api_key: str) -> Mapping[str, str]:
        """An API key of Bedrock's own (`AWS_BEARER_TOKEN_BEDROCK`), which takes the place of a signature."""
        return {"authorization": f"Bearer {api_key}"}

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return bedrock_errors.decode_error(status, headers, body)

    def encode_error(self, error: ProviderError) -> tuple[int, bytes]:
        return bedrock_errors.encode_error(error)
