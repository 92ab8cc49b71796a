"""The wire for Anthropic Messages: requests and answers, encoded and decoded."""

from __future__ import annotations

from turnstream.wires.anthropic import answer_decoder, answers, request_decoder, requests
from turnstream.wires.anthropic.decoder import AnthropicDecoder
from turnstream.wires.anthropic.encoder import AnthropicEncoder
from turnstream.wires.anthropic.errors import ERRORS
from turnstream.wires.base import Wire

WIRE = Wire(
    name="anthropic",
    content_type="text/event-stream",
    encode_request=requests.encode_request,
    auth_headers=lambda api_key: {"x-api-key": api_key},
    decoder=AnthropicDecoder,
    decode_answer=answer_decoder.decode_answer,
    decode_error=ERRORS.decode_error,
    decode_request=request_decoder.decode_request,
    encoder=AnthropicEncoder,
    encode_answer=answers.encode_answer,
    encode_error=ERRORS.encode_error,
)
