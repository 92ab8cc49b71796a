"""The bodies of Ollama's requests to `/api/chat` and `/api/generate`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import msgspec

from turnstream.dialects.client_request import ClientRequest, parsed_body
from turnstream.dialects.ollama.models import named_model
from turnstream.dialects.provider_shaped.request import GatewayFields, client_request
from turnstream.errors import InvalidRequest
from turnstream.wires.ollama.wire import WIRE

_OWN = frozenset({"context", "keep_alive", "suffix", "template", "truncate", "shift"})
"""Fields that no model gets. `context` is not used: a client resends its messages to `/api/chat`."""


class OllamaFields(GatewayFields, frozen=True):
    """Fields that turnstream reads itself."""

    model: str = ""
    prompt: str | None = None
    images: Any = None
    suffix: str | None = None
    template: str | None = None
    raw: bool | None = None
    keep_alive: Any = None
    stream: bool | None = None


class OllamaRequest(NamedTuple):
    """A parsed request.

    Attributes:
        asked: The request for a turn. None: the client only wants the model to be loaded, or unloaded.
        model: The model as the client names it.
        stream: True for a streamed answer.
        unloads: True if the model is to be unloaded.
    """

    asked: ClientRequest | None
    model: str
    stream: bool
    unloads: bool = False


def parse_ollama(raw: bytes, known_models: Collection[str], *, generates: bool) -> OllamaRequest:
    """Return the request of a JSON body. Raises InvalidRequest.

    Args:
        raw: The body.
        known_models: Names of the listed models.
        generates: True for a request to `/api/generate`, which has a prompt and no messages.
    """
    fields = parsed_body(raw, OllamaFields)
    unloads = fields.keep_alive in (0, "0")
    if generates and not (fields.prompt or fields.images):
        return OllamaRequest(None, fields.model, fields.stream is not False, unloads)
    for name in ("suffix", "template", "raw"):
        if getattr(fields, name):
            raise InvalidRequest(f"{name} is not possible here: leave it out")
    call = WIRE.decode_request("", raw)
    if not call.messages and call.system is None:
        return OllamaRequest(None, call.model, call.stream, unloads)
    named = msgspec.structs.replace(
        call, model=named_model(call.model, known_models), params=_with_thinking(call.params)
    )
    asked = client_request(named, fields, wire=WIRE.name, own=_OWN)
    return OllamaRequest(asked, call.model, call.stream)


def _with_thinking(params: dict[str, Any]) -> dict[str, Any]:
    """Return the params with `think` under the name that all wires know."""
    think = params.get("think")
    if not isinstance(think, bool):
        return params
    rest = {name: value for name, value in params.items() if name != "think"}
    return {**rest, "thinking": {"effort": "medium"} if think else {"type": "disabled"}}
