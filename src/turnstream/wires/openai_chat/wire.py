"""Wire of OpenAI Chat Completions and the vendors with the same API, in both directions."""

from __future__ import annotations

from turnstream.wires.base import Wire, bearer
from turnstream.wires.openai_chat import answer_decoder, answers, request_decoder, requests
from turnstream.wires.openai_chat.decoder import OpenAIChatDecoder
from turnstream.wires.openai_chat.encoder import OpenAIChatEncoder
from turnstream.wires.shared.openai_errors import ERRORS

WIRE = Wire(
    name="openai-chat",
    content_type="text/event-stream",
    encode_request=requests.encode_request,
    auth_headers=bearer,
    decoder=OpenAIChatDecoder,
    decode_answer=answer_decoder.decode_answer,
    decode_error=ERRORS.decode_error,
    decode_request=request_decoder.decode_request,
    encoder=OpenAIChatEncoder,
    encode_answer=answers.encode_answer,
    encode_error=ERRORS.encode_error,
)
"""The base URL includes the version, as in `https://api.openai.com/v1`."""
