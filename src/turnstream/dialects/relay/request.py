"""Requests of the relay's clients, and the presets that they name."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec

from turnstream.dialects.client_request import parsed_body
from turnstream.errors import InvalidRequest
from turnstream.limits import MAX_AGENT_ID, MAX_MESSAGE


class AgentPreset(NamedTuple):
    """A named model with its instructions, tools and parameters.

    Attributes:
        tools: Names of tools of the server.
        active: False: requests are refused.
    """

    model: str | None = None
    system: str | None = None
    tools: tuple[str, ...] = ()
    params: dict[str, Any] = {}
    active: bool = True


class RelayMessage(msgspec.Struct, frozen=True, rename="camel"):
    """A message of a client to an agent.

    Attributes:
        conversation_id: The conversation to continue. None: a new one.
    """

    agent_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_AGENT_ID)]
    message: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_MESSAGE)]
    conversation_id: str | None = None


def parse_message(raw: bytes) -> RelayMessage:
    """Return the message in a body. Raises InvalidRequest."""
    return parsed_body(raw, RelayMessage)


def message_of(values: dict[str, str]) -> RelayMessage:
    """Return the message in the values of an address. Raises InvalidRequest."""
    try:
        return msgspec.convert(values, RelayMessage)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{error}: correct this parameter of the address") from None
