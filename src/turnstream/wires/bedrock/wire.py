"""The wire for Amazon Bedrock, Converse and ConverseStream: requests and answers, encoded and decoded.

`shared.event_stream` implements the binary framing, and `providers.signing` signs requests. Decoding needs
botocore, the extra `bedrock`. Without it `decoder` raises ConfigurationError.
"""

from __future__ import annotations

from typing import Literal

from turnstream.wires.base import DEFAULT_EVENT_LIMIT, Decoder, Wire, bearer
from turnstream.wires.bedrock import answer_decoder, answers, request_decoder, requests
from turnstream.wires.bedrock.decoder import BedrockDecoder
from turnstream.wires.bedrock.encoder import BedrockEncoder
from turnstream.wires.bedrock.errors import ERRORS
from turnstream.wires.shared.event_stream import CONTENT_TYPE


def _encoder(*, model: str, message_id: str) -> BedrockEncoder:
    return BedrockEncoder()


def bedrock_wire(claude: Wire) -> Wire:
    """Return the wire.

    Args:
        claude: The wire of Claude's own requests and events, which InvokeModel carries in Bedrock's envelope.
            It is a parameter because wires do not import each other.
    """

    def new_decoder(
        *, event_limit: int = DEFAULT_EVENT_LIMIT, on_malformed: Literal["fail", "skip"] = "fail"
    ) -> Decoder:
        def new_claude() -> Decoder:
            return claude.decoder(event_limit=event_limit, on_malformed=on_malformed)

        return BedrockDecoder(event_limit=event_limit, on_malformed=on_malformed, claude=new_claude)

    return Wire(
        name="bedrock",
        content_type=CONTENT_TYPE,
        encode_request=lambda request: requests.encode_request(request, claude),
        auth_headers=bearer,  # a Bedrock API key replaces the signature
        decoder=new_decoder,
        decode_answer=answer_decoder.decode_answer,
        decode_error=ERRORS.decode_error,
        decode_request=lambda path, body: request_decoder.decode_request(path, body, claude),
        encoder=_encoder,
        encode_answer=answers.encode_answer,
        encode_error=ERRORS.encode_error,
    )
