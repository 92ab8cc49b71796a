"""The wire for Google Gemini's generateContent, in the Gemini API and in Vertex AI."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from turnstream.wires.base import Wire
from turnstream.wires.gemini import answer_decoder, answers, request_decoder, requests
from turnstream.wires.gemini.decoder import GeminiDecoder
from turnstream.wires.gemini.encoder import GeminiEncoder
from turnstream.wires.gemini.errors import ERRORS

_ACCESS_TOKEN = "ya29."  # noqa: S105  prefix of Google's access tokens, not a secret


def _auth_headers(api_key: str) -> dict[str, str]:
    """Return the headers for an API key, or for an access token of Vertex AI."""
    if api_key.startswith(_ACCESS_TOKEN):
        return {"authorization": f"Bearer {api_key}"}
    return {"x-goog-api-key": api_key}


WIRE = Wire(
    name="gemini",
    content_type="text/event-stream",
    encode_request=requests.encode_request,
    auth_headers=_auth_headers,
    decoder=GeminiDecoder,
    decode_answer=answer_decoder.decode_answer,
    decode_error=ERRORS.decode_error,
    decode_request=request_decoder.decode_request,
    encoder=GeminiEncoder,
    encode_answer=answers.encode_answer,
    encode_error=ERRORS.encode_error,
)
ARRAY_WIRE = replace(
    WIRE,
    name="gemini-array",
    content_type="application/json",
    encoder=partial(GeminiEncoder, as_array=True),
)
"""Wire of the answer to a request without `alt=sse`: one JSON array. It cannot be configured."""
