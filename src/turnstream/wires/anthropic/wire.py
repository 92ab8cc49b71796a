"""Anthropic Messages: one provider protocol, both ways."""

from __future__ import annotations

from turnstream.wires.anthropic import answers, errors, requests
from turnstream.wires.anthropic.decoder import AnthropicDecoder
from turnstream.wires.anthropic.encoder import AnthropicEncoder
from turnstream.wires.base import Wire


def _auth_headers(api_key: str) -> dict[str, str]:
    return {"x-api-key": api_key}


WIRE = Wire(
    name="anthropic",
    content_type="text/event-stream",
    encode_request=requests.encode_request,
    auth_headers=_auth_headers,
    decoder=AnthropicDecoder,
    decode_answer=answers.decode_answer,
    decode_error=errors.decode_error,
    decode_request=lambda _path, body: requests.decode_request(body),
    encoder=AnthropicEncoder,
    encode_answer=answers.encode_answer,
    encode_error=errors.encode_error,
)
