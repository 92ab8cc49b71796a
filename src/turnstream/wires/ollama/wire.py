"""The wire for Ollama's own protocol, `/api/chat`: requests and answers, encoded and decoded."""

from __future__ import annotations

from turnstream.wires.base import Wire, bearer
from turnstream.wires.ollama import answer_decoder, answers, request_decoder, requests
from turnstream.wires.ollama.decoder import OllamaDecoder
from turnstream.wires.ollama.encoder import OllamaEncoder
from turnstream.wires.ollama.errors import ERRORS

WIRE = Wire(
    name="ollama",
    content_type="application/x-ndjson",
    encode_request=requests.encode_request,
    auth_headers=bearer,
    decoder=OllamaDecoder,
    decode_answer=answer_decoder.decode_answer,
    decode_error=ERRORS.decode_error,
    decode_request=request_decoder.decode_request,
    encoder=OllamaEncoder,
    encode_answer=answers.encode_answer,
    encode_error=ERRORS.encode_error,
)
"""Wire of Ollama. The base URL is the server's, as in `http://127.0.0.1:11434`."""
