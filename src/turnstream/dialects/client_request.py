"""The request of a client that sends its whole conversation, in one form for all such dialects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from turnstream.core.blocks import Block
from turnstream.errors import InvalidRequest
from turnstream.turns.conversations import ResentConversation
from turnstream.turns.new_turns import TurnRequest
from turnstream.wires.base import ToolDefinition

Body = TypeVar("Body")


class ClientApproval(msgspec.Struct, frozen=True):
    """The user's answer to a tool call that needs an approval."""

    approval_id: str
    is_approved: bool
    reason: str | None = None


class ClientRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation, and the options of its next answer.

    Attributes:
        approvals: Answers to tool calls that need an approval. With them, the conversation has no new
            message.
        tools: The client's own tools, and names of the server's. None: all of the server's.
        inherits: True if an option that is None has its value from the last answer. False: it has no value.
        store: False for a transient turn. None: as the server's settings say.
        joins: True if a repetition of the whole request gets the answer that the first one started.
    """

    conversation: ResentConversation
    approvals: tuple[ClientApproval, ...] = ()
    model: str | None = None
    system: str | None = None
    fallbacks: tuple[str, ...] | None = None
    params: dict[str, Any] | None = None
    tools: tuple[str | ToolDefinition, ...] | None = None
    metadata: dict[str, Any] = {}
    inherits: bool = True
    store: bool | None = None
    joins: bool = False

    @property
    def client_tools(self) -> frozenset[str]:
        """Names of the tools that the client runs."""
        return frozenset(tool.name for tool in self.tools or () if not isinstance(tool, str))

    def options_of(self, request: TurnRequest) -> TurnRequest:
        """Return `request` with this request's options."""
        return msgspec.structs.replace(
            request,
            model=self.model,
            system=self.system,
            fallbacks=self.fallbacks,
            params=self.params,
            tools=self.tools,
            metadata=self.metadata,
            inherits=self.inherits,
        )


def parsed_body(raw: bytes, body_type: type[Body]) -> Body:
    """Return a JSON body as a value of `body_type`. Raises InvalidRequest, which names the invalid field."""
    try:
        return msgspec.json.decode(raw, type=body_type)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{error}: correct this field of the body") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not JSON ({error}): send a JSON object") from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply: send flatter JSON") from None


def numbered(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Return the blocks numbered from 0, in their order."""
    return tuple(msgspec.structs.replace(block, sequence=index) for index, block in enumerate(blocks))
