"""The messages of an AG-UI client, and the conversation that is made from them.

The result of a tool that ran on the server belongs to the assistant's message. The result of a client's tool
is a message of the user.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from turnstream.core.blocks import Block, Content, Message
from turnstream.dialects.client_request import numbered
from turnstream.errors import InvalidRequest


class PartSource(msgspec.Struct, frozen=True, rename="camel"):
    """The content of a media part: base64 data, or a URL."""

    type: Literal["data", "url", "file"]
    value: str
    mime_type: str | None = None


class ContentPart(msgspec.Struct, frozen=True):
    """A part of a message."""

    type: Literal["text", "image", "audio", "video", "document"]
    text: str | None = None
    source: PartSource | None = None

    @property
    def fault(self) -> str | None:
        """Name of a field that the part lacks, or None."""
        if self.type == "text":
            return "text" if self.text is None else None
        if self.source is None:
            return "source"
        return "mimeType" if self.source.type == "data" and self.source.mime_type is None else None


class ChatFunction(msgspec.Struct, frozen=True):
    """The tool of a call, and its arguments as JSON text."""

    name: str
    arguments: str


class ChatToolCall(msgspec.Struct, frozen=True):
    """A tool call of the assistant."""

    id: str
    type: Literal["function"]
    function: ChatFunction
    metadata: dict[str, Any] | None = None


class ChatEntry(msgspec.Struct, frozen=True, rename="camel"):
    """A message of any role.

    `role` decides which fields count. Only the content of activities is an object.
    """

    id: str
    role: Literal["developer", "system", "user", "assistant", "tool", "reasoning", "activity"]
    content: str | list[ContentPart] | dict[str, Any] | None = None
    tool_calls: list[ChatToolCall] | None = None
    tool_call_id: str | None = None
    activity_type: str | None = None
    error: str | None = None
    metadata: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The texts of the content, joined."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text or "" for part in self.parts)

    @property
    def parts(self) -> list[ContentPart]:
        """The content as parts."""
        if isinstance(self.content, str):
            return [ContentPart("text", self.content)]
        return self.content if isinstance(self.content, list) else []

    @property
    def fault(self) -> str | None:
        """Name of a field that the message lacks, or None. Clients refuse such a message in a snapshot."""
        content = self.content
        match self.role:
            case "assistant":
                is_fit = content is None or isinstance(content, str)
            case "activity":
                is_fit = isinstance(content, dict)
            case "user" | "tool":
                is_fit = isinstance(content, str | list)
            case _:
                is_fit = isinstance(content, str)
        if not is_fit:
            return "content"
        if self.role == "activity" and self.activity_type is None:
            return "activityType"
        if self.role == "tool" and self.tool_call_id is None:
            return "toolCallId"
        return next((fault for part in self.parts if (fault := part.fault) is not None), None)


class SaidMessage(NamedTuple):
    """A message of the conversation, with the client's id for it, or None."""

    message: Message
    client_id: str | None


def conversation_of(entries: Sequence[ChatEntry], server_tools: Collection[str]) -> list[SaidMessage]:
    """Return the messages of the conversation.

    Adjacent messages of one role are joined, empty ones left out.
    """
    found: list[SaidMessage] = []
    ran_here: set[str] = set()
    said: list[Block] = []
    heard: list[Block] = []
    ids: dict[str, str | None] = {"assistant": None, "user": None}

    def end_assistant() -> None:
        if said:
            found.append(SaidMessage(Message("assistant", numbered(said)), ids["assistant"]))
        said.clear()

    def end_user() -> None:
        if heard:
            found.append(SaidMessage(Message("user", numbered(heard)), ids["user"]))
        heard.clear()
        ids["user"] = None

    for entry in entries:
        match entry.role:
            case "user":
                if not all(block.block_type == "tool_result" for block in heard):
                    end_assistant()
                    end_user()
                heard += _user_blocks(entry)
                ids["user"] = entry.id or None
            case "tool":
                result = _result(entry)
                (said if entry.tool_call_id in ran_here else heard).append(result)
            case "assistant" | "reasoning":
                if heard:
                    end_assistant()
                    end_user()
                if not said:
                    ids["assistant"] = entry.id or None
                said += _assistant_blocks(entry)
                for call in entry.tool_calls or ():
                    executed = bool((call.metadata or {}).get("providerExecuted"))
                    if executed or call.function.name in server_tools:
                        ran_here.add(call.id)
            case _:
                pass
    end_assistant()
    end_user()
    return found


def _user_blocks(entry: ChatEntry) -> list[Block]:
    blocks: list[Block] = []
    for part in entry.parts:
        if part.type == "text":
            if part.text and part.text.strip():
                blocks.append(Block(0, "text", part.text))
        elif part.type in ("image", "document") and part.source is not None:
            source = part.source
            if source.type == "file":
                raise InvalidRequest(
                    "messages: a file that a provider stores cannot be read: send data or a URL"
                )
            typed: Content = {"media_type": source.mime_type} if source.mime_type else {}
            place: Content = {"data": source.value} if source.type == "data" else {"url": source.value}
            blocks.append(Block(0, "image" if part.type == "image" else "document", None, {**typed, **place}))
        else:
            raise InvalidRequest(f"messages: {part.type} cannot be sent to a model: leave it out")
    return blocks


def _assistant_blocks(entry: ChatEntry) -> list[Block]:
    blocks: list[Block] = []
    if text := entry.text:
        blocks.append(Block(0, "thinking" if entry.role == "reasoning" else "text", text))
    blocks += [_call(call) for call in entry.tool_calls or ()]
    return blocks


def _call(call: ChatToolCall) -> Block:
    text = call.function.arguments
    try:
        given: Any = msgspec.json.decode(text) if text.strip() else {}
    except (msgspec.DecodeError, RecursionError):
        given = {}
    executed = {"provider_executed": True} if (call.metadata or {}).get("providerExecuted") else {}
    content: Content = {
        "tool_use_id": call.id,
        "tool_name": call.function.name,
        "input": given if isinstance(given, dict) else {},
        "input_json": text,
        **executed,
    }
    return Block(0, "tool_use", None, content)


def _result(entry: ChatEntry) -> Block:
    facts = entry.metadata or {}
    executed = {"provider_executed": True} if facts.get("providerExecuted") else {}
    content: Content = {
        "tool_use_id": entry.tool_call_id,
        "content": entry.error or entry.text,
        "is_error": entry.error is not None or bool(facts.get("isError")),
        **executed,
    }
    return Block(0, "tool_result", None, content)
