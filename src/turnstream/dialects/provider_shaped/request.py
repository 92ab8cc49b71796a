"""The request half of the provider-shaped dialects: a ModelRequest as a ClientRequest.

    body ─► fields of turnstream (GatewayFields), and the wire's `decode_request` (ModelRequest)
         ─► ClientRequest

The params of a request have one rule. Those with a name that all wires know (`SHARED_PARAMS`) are converted
for the model that is called. All others are sent unchanged to models that speak the protocol of the request,
and left out for other models. Fields that the dialect cannot honor are refused by the dialect's own module.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from turnstream.core.blocks import Message
from turnstream.dialects.client_request import ClientRequest, numbered
from turnstream.dialects.provider_shaped.origin_seal import OriginSeal
from turnstream.errors import InvalidRequest
from turnstream.turns.conversations import ResentConversation
from turnstream.wires.base import SHARED_PARAMS, WIRE_PARAMS, ModelRequest


class GatewayFields(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of turnstream that a client may add to the body of its protocol (`extra_body`).

    Attributes:
        fallbacks: Models to call, in order, if the model fails. None: those of the model's name in the
            settings, or of the server.
        server_tools: Names of the server's tools that the model may call. They run here.
        store: False for a transient turn. None: as the settings say.
    """

    fallbacks: list[str] | None = None
    server_tools: list[str] = []
    store: bool | None = None


_WIRES_OF_THINKING = {
    "disabled": ("anthropic", "bedrock", "gemini", "ollama"),
    "adaptive": ("anthropic", "bedrock"),
}
"""Wires that know a vendor's own form of `thinking`, by its type. Models on others do not get it."""
GATEWAY_FIELDS = frozenset(GatewayFields.__struct_fields__)


def client_request(  # noqa: PLR0913 - the facts of a dialect's request
    call: ModelRequest,
    fields: GatewayFields,
    *,
    wire: str,
    own: Collection[str] = (),
    metadata: dict[str, Any] | None = None,
    seal: OriginSeal | None = None,
) -> ClientRequest:
    """Return the request for a turn. Raises InvalidRequest if the model has nothing to answer.

    Args:
        call: The decoded body.
        wire: Name of the wire of the dialect.
        own: Params that the dialect reads itself. No model gets them.
        seal: Opens the signatures of thinking, in a dialect whose clients send it back.
    """
    if not call.messages or call.messages[-1].role != "user":
        raise InvalidRequest(
            "the last message must be a message of the user or the result of a tool: "
            "an answer that the client began cannot be continued"
        )
    messages = call.messages
    if seal is not None:
        messages = (Message(message.role, seal.opened_blocks(message.blocks)) for message in messages)
    *before, last = messages
    return ClientRequest(
        conversation=ResentConversation(messages=tuple(before), new=numbered(last.blocks)),
        model=call.model,
        system=call.system,
        fallbacks=None if fields.fallbacks is None else tuple(fields.fallbacks),
        params=_params(call.params, wire, frozenset(own) | GATEWAY_FIELDS),
        tools=(*fields.server_tools, *call.tools),
        metadata=metadata or {},
        store=fields.store,
        inherits=False,
    )


def _params(given: dict[str, Any], wire: str, own: Collection[str]) -> dict[str, Any]:
    params = {name: value for name, value in given.items() if name in SHARED_PARAMS}
    others = {name: value for name, value in given.items() if name not in SHARED_PARAMS and name not in own}
    by_wire = {wire: others} if others else {}
    match params.get("thinking"):
        case {"type": kind} as thinking:
            del params["thinking"]
            for knowing in _WIRES_OF_THINKING.get(str(kind), (wire,)):
                by_wire[knowing] = {**by_wire.get(knowing, {}), "thinking": thinking}
        case _:
            pass
    return {**params, WIRE_PARAMS: by_wire} if by_wire else params
