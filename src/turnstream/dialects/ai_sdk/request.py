"""The body of an AI SDK chat request: UI messages as a conversation.

A UI message of the assistant shows a chain of turns. The result of a tool that ran on the server belongs to
the assistant's message. The result of a client's tool is a message of the user, and the parts after it belong
to the next message of the assistant.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from turnstream.core.blocks import Block, Content, Message
from turnstream.dialects.client_request import (
    ClientApproval,
    ClientRequest,
    numbered,
    parsed_body,
)
from turnstream.errors import InvalidRequest
from turnstream.limits import CLIENT_ID_LENGTH, MAX_MESSAGES, MAX_REASON
from turnstream.turns.conversations import ResentConversation
from turnstream.wires.base import ToolDefinition

_ANSWERED = ("output-available", "output-error", "output-denied")


class ToolApproval(msgspec.Struct, frozen=True):
    """The approval of a tool part. `approved`: None until the user has answered."""

    id: str
    approved: bool | None = None
    reason: Annotated[str, msgspec.Meta(max_length=MAX_REASON)] | None = None


class UiPart(msgspec.Struct, frozen=True, rename="camel"):
    """A part of a UI message. `type` says which of the fields count."""

    type: str
    text: str = ""
    url: str = ""
    media_type: str = ""
    filename: str | None = None
    tool_call_id: str = ""
    tool_name: str = ""
    state: str = ""
    input: Any = None
    output: Any = None
    error_text: str = ""
    provider_executed: bool = False
    approval: ToolApproval | None = None

    @property
    def called_tool(self) -> str | None:
        """Name of the tool that the part calls, or None."""
        if self.type == "dynamic-tool":
            return self.tool_name
        return self.type.removeprefix("tool-") if self.type.startswith("tool-") else None


class UiMessage(msgspec.Struct, frozen=True):
    """A message of the conversation, as the client shows it."""

    role: Literal["system", "user", "assistant"]
    parts: list[UiPart]
    id: str = ""


class ClientTool(msgspec.Struct, frozen=True, rename="camel"):
    """A tool that runs in the client."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z_][a-zA-Z0-9_-]{0,63}$")]
    description: str = ""
    input_schema: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "object"})


class UiRequest(msgspec.Struct, frozen=True, rename="camel"):
    """The body of a chat request. The fields from `model` on are options of turnstream.

    The workflow transport sends no `id`. Then the messages themselves identify the chat.
    """

    messages: Annotated[list[UiMessage], msgspec.Meta(min_length=1, max_length=MAX_MESSAGES)]
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=CLIENT_ID_LENGTH)] | None = None
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    model: str | None = None
    system: str | None = None
    fallbacks: list[str] | None = None
    params: dict[str, Any] | None = None
    tools: list[str | ClientTool] | None = None
    metadata: dict[str, Any] | None = None


class _PlainMessage(msgspec.Struct, frozen=True):
    """A message of another protocol, if it has no parts."""

    content: Any
    parts: Any = msgspec.UNSET


class _PlainBody(msgspec.Struct, frozen=True):
    messages: list[_PlainMessage]


class _MessageOfClient(NamedTuple):
    """A message of the conversation, with the client's id for it, or None."""

    message: Message
    client_id: str | None


def parse_request(raw: bytes, server_tools: Collection[str]) -> ClientRequest:
    """Return the request of a JSON body. Raises InvalidRequest.

    Args:
        server_tools: Names of the tools that run on the server.
    """
    try:
        body = parsed_body(raw, UiRequest)
    except InvalidRequest:
        if _has_plain_messages(raw):
            raise InvalidRequest(
                "the messages have `content` and no `parts`: send UI messages of the AI SDK 5 to 7"
            ) from None
        raise
    messages = [message for message in body.messages if message.role != "system"]
    system = "\n\n".join(
        part.text
        for message in body.messages
        if message.role == "system"
        for part in message.parts
        if part.type == "text"
    )
    if not messages:
        raise InvalidRequest("the messages have no user message: send one")
    history = _conversation(messages, server_tools)
    approvals = _approvals(messages[-1])
    new = history.pop() if history and history[-1].message.role == "user" and not approvals else None
    if new is None and not approvals:
        raise InvalidRequest(
            "the last message needs no answer: send a message of the user, or results of the client's tools"
        )
    if new is not None and body.trigger == "regenerate-message":
        history, new = [*history, new], None
    conversation = ResentConversation(
        messages=tuple(one.message for one in history),
        message_ids=tuple(one.client_id for one in history),
        new=() if new is None else new.message.blocks,
        new_message_id=None if new is None else new.client_id,
        chat_id=body.id,
    )
    return ClientRequest(
        conversation=conversation,
        approvals=approvals,
        model=body.model,
        system=body.system or system or None,
        fallbacks=None if body.fallbacks is None else tuple(body.fallbacks),
        params=body.params,
        tools=None if body.tools is None else tuple(_tool(tool) for tool in body.tools),
        metadata=body.metadata or {},
        joins=True,
    )


def _has_plain_messages(raw: bytes) -> bool:
    """Return True if a body that is not of the AI SDK has the messages of another protocol."""
    try:
        messages = parsed_body(raw, _PlainBody).messages
    except InvalidRequest:
        return False
    return any(message.parts is msgspec.UNSET for message in messages)


def _tool(tool: str | ClientTool) -> str | ToolDefinition:
    return tool if isinstance(tool, str) else ToolDefinition(tool.name, tool.description, tool.input_schema)


def _conversation(messages: Sequence[UiMessage], server_tools: Collection[str]) -> list[_MessageOfClient]:
    """Return the messages of the conversation. Messages without content are left out."""
    found: list[_MessageOfClient] = []
    for message in messages:
        client_id = message.id or None
        if message.role == "user":
            blocks = [block for part in message.parts if (block := _user_block(part)) is not None]
            if found and all(block.block_type == "tool_result" for block in found[-1].message.blocks):
                blocks = [*found.pop().message.blocks, *blocks]  # results that came with the next question
            found.append(_MessageOfClient(Message("user", numbered(blocks)), client_id))
        else:
            shown = _assistant_messages(message, server_tools)
            found.extend(
                _MessageOfClient(one, None if index else client_id) for index, one in enumerate(shown)
            )
    return [one for one in found if one.message.blocks]


def _user_block(part: UiPart) -> Block | None:
    if part.type == "text":
        return Block(0, "text", part.text) if part.text.strip() else None
    return _attachment(part) if part.type == "file" else None


def _attachment(part: UiPart) -> Block:
    is_image = part.media_type.partition("/")[0] == "image"
    titled: Content = {"title": part.filename} if part.filename and not is_image else {}
    if part.url.startswith("data:"):
        head, _, data = part.url.partition(",")
        media_type = head.removeprefix("data:").removesuffix(";base64") or part.media_type
        content: Content = {"media_type": media_type, "data": data, **titled}
    else:
        content = {"url": part.url, **titled}
    return Block(0, "image" if is_image else "document", None, content)


def _assistant_messages(message: UiMessage, server_tools: Collection[str]) -> list[Message]:
    """Return the messages of the chain that a UI message shows."""
    found: list[Message] = []
    blocks: list[Block] = []
    results: list[Block] = []

    def end_turn() -> None:
        if blocks:
            found.append(Message("assistant", numbered(blocks)))
        if results:
            found.append(Message("user", numbered(results)))
        blocks.clear()
        results.clear()

    for part in message.parts:
        tool = part.called_tool
        if part.type == "step-start":
            if results:
                end_turn()
        elif part.type == "text" and part.text:
            blocks.append(Block(0, "text", part.text))
        elif part.type == "reasoning" and part.text:
            blocks.append(Block(0, "thinking", part.text))
        elif part.type == "file":
            blocks.append(_attachment(part))
        elif tool is not None and part.state != "input-streaming":
            blocks.append(_call(part, tool))
            if part.state in _ANSWERED:
                runs_here = part.provider_executed or tool in server_tools
                (blocks if runs_here else results).append(_result(part))
    end_turn()
    return found


def _call(part: UiPart, tool: str) -> Block:
    executed = {"provider_executed": True} if part.provider_executed else {}
    given: Any = part.input
    content: Content = {
        "tool_use_id": part.tool_call_id,
        "tool_name": tool,
        "input": given if isinstance(given, dict) else {},
        "input_json": msgspec.json.encode(given).decode() if given is not None else "",
        **executed,
    }
    return Block(0, "tool_use", None, content)


def _result(part: UiPart) -> Block:
    executed = {"provider_executed": True} if part.provider_executed else {}
    if part.state == "output-available":
        output, is_error = part.output, False
    elif part.state == "output-error":
        output, is_error = part.error_text, True
    else:
        reason = part.approval.reason if part.approval is not None else None
        output, is_error = reason or "the user denied the call", True
    content: Content = {"tool_use_id": part.tool_call_id, "content": output, "is_error": is_error, **executed}
    return Block(0, "tool_result", None, content)


def _approvals(message: UiMessage) -> tuple[ClientApproval, ...]:
    """Return the answers to approvals that the conversation's last message gives."""
    return tuple(
        ClientApproval(part.approval.id, part.approval.approved, part.approval.reason)
        for part in message.parts
        if part.state == "approval-responded"
        and part.approval is not None
        and part.approval.approved is not None
    )
