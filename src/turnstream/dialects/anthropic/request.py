"""The body of a request to Anthropic Messages."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from turnstream.dialects.client_request import ClientRequest, parsed_body
from turnstream.dialects.provider_shaped.origin_seal import OriginSeal
from turnstream.dialects.provider_shaped.request import GatewayFields, client_request
from turnstream.model_loop.estimates import estimated_input_tokens
from turnstream.wires.anthropic.wire import WIRE

_PATH = "/v1/messages"


class MessagesMetadata(msgspec.Struct, frozen=True):
    user_id: str | None = None


class MessagesFields(GatewayFields, frozen=True):
    """Fields that are not for the model."""

    metadata: MessagesMetadata | None = None


class MessagesRequest(NamedTuple):
    """A parsed request.

    Attributes:
        stream: True for a streamed answer.
        stop_sequence: The only stop sequence. None if there are several, or none. If the provider does not
            name the stop sequence that ended an answer, it was this one.
    """

    asked: ClientRequest
    stream: bool
    stop_sequence: str | None


def parse_messages(raw: bytes, seal: OriginSeal) -> MessagesRequest:
    """Return the request of a JSON body. Raises InvalidRequest.

    The user's id of `metadata` is stored with the turn, and sent to Anthropic's own models.

    `seal`: opens the signatures of thinking.
    """
    fields = parsed_body(raw, MessagesFields)
    call = WIRE.decode_request(_PATH, raw)
    user_id = None if fields.metadata is None else fields.metadata.user_id
    metadata: dict[str, Any] = {} if user_id is None else {"user_id": user_id}
    asked = client_request(call, fields, wire=WIRE.name, metadata=metadata, seal=seal)
    match call.params.get("stop"):
        case [str(only)]:
            return MessagesRequest(asked, call.stream, only)
        case _:
            return MessagesRequest(asked, call.stream, None)


def estimated_tokens(raw: bytes) -> int:
    """Return the estimated input tokens of a request to count tokens. Raises InvalidRequest."""
    return estimated_input_tokens(WIRE.decode_request(_PATH, raw))
