"""Wire of OpenAI Responses and the vendors with the same API, in both directions."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from turnstream.wires.base import Wire, bearer
from turnstream.wires.openai_responses import answer_decoder, answers, request_decoder, requests
from turnstream.wires.openai_responses.decoder import OpenAIResponsesDecoder
from turnstream.wires.openai_responses.encoder import OpenAIResponsesEncoder
from turnstream.wires.shared.openai_errors import ERRORS

WIRE = Wire(
    name="openai-responses",
    content_type="text/event-stream",
    encode_request=requests.encode_request,
    auth_headers=bearer,
    decoder=OpenAIResponsesDecoder,
    decode_answer=answer_decoder.decode_answer,
    decode_error=ERRORS.decode_error,
    decode_request=request_decoder.decode_request,
    encoder=OpenAIResponsesEncoder,
    encode_answer=answers.encode_answer,
    encode_error=ERRORS.encode_error,
    encode_resume=requests.encode_resume,
    encode_cancel=requests.encode_cancel,
)
"""The base URL includes the version, as in `https://api.openai.com/v1`."""

BACKGROUND_WIRE = replace(
    WIRE,
    encoder=partial(OpenAIResponsesEncoder, background=True),
    encode_answer=partial(answers.encode_answer, background=True),
)
"""Variant of `WIRE` whose encoders write background responses, which the provider stores."""
