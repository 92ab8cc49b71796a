"""Helpers of several wires for the blocks of a history: sides, tool results, media, provider metadata."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, TypeGuard

from turnstream.core.blocks import Block, Content, Message
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object

Role: TypeAlias = Literal["user", "assistant"]

TEXT_TYPES = frozenset({"text", "reference", "partial_reference"})
"""Types of blocks whose text is sent back as text."""
INVALID_ARGUMENTS = "INVALID_JSON"
"""Field for arguments that are not a JSON object, on wires that accept only objects."""
_ERROR_MARK = "Error: "


def metadata_of(content: Content | None) -> JsonObject:
    """Return the metadata that wires keep on a block, by wire name."""
    metadata: Any = (content or {}).get("provider_metadata")
    return metadata if is_object(metadata) else {}


def as_metadata(kept: JsonObject) -> Content:
    """Return the content of a block with this metadata. Empty without metadata."""
    return {"provider_metadata": kept} if kept else {}


def is_clients(block: Block, block_type: Literal["tool_use", "tool_result"]) -> bool:
    """Return True for a call or a result of this type, unless the provider's own server ran the tool."""
    return block.block_type == block_type and not (block.content or {}).get("provider_executed")


def side_of(block: Block, role: Role) -> Role | None:
    """Return the side on which an API accepts a block, or None if it accepts the block on no side."""
    match block.block_type:
        case "tool_use" | "thinking":
            return "assistant"
        case "tool_result":
            return "user" if is_clients(block, "tool_result") else "assistant"
        case "image" | "document":
            return "user" if role == "user" else None
        case _:
            return role


def alternate_roles(entries: Iterable[tuple[str, list[JsonObject]]], *, field: str) -> list[JsonObject]:
    """Return messages with alternating roles. Parts of the same role in a row go into one message, in
    `field`."""
    messages: list[JsonObject] = []
    for role, parts in entries:
        if parts and (not messages or messages[-1]["role"] != role):
            messages.append({"role": role, field: []})
        if parts:
            messages[-1][field].extend(parts)
    return messages


def merge_sides(entries: Iterable[tuple[Role, Iterable[Block]]]) -> tuple[Message, ...]:
    """Return the messages of a history. Adjacent pieces of one side become one message
    with numbered blocks."""
    sides: list[tuple[Role, list[Block]]] = []
    for side, blocks in entries:
        if not sides or sides[-1][0] != side:
            sides.append((side, []))
        sides[-1][1].extend(blocks)
    return tuple(
        Message(side, tuple(Block(n, b.block_type, b.text_content, b.content) for n, b in enumerate(blocks)))
        for side, blocks in sides
    )


def are_parts(value: Any, *types: str) -> TypeGuard[list[JsonObject]]:
    """Return True if a result's value is a list of content parts of these types."""
    return is_list(value) and all(is_object(part) and part.get("type") in types for part in value)


def media_in(part: JsonObject) -> JsonObject:
    """Return the media fields of a content part: those in Anthropic's `source`, or its own."""
    source = part.get("source")
    return source if is_object(source) else part


def mark_failure(text: str, content: Content) -> str:
    """Return the text of a result, with an error mark if the tool failed, for a wire without
    a field for it."""
    is_unmarked = content.get("is_error") and not text.startswith(_ERROR_MARK)
    return _ERROR_MARK + text if is_unmarked else text


def read_result(identity: str, given: Any) -> Content:
    """Return the content of a result that `mark_failure` may have marked."""
    failed = isinstance(given, str) and given.startswith(_ERROR_MARK)
    text = given.removeprefix(_ERROR_MARK) if isinstance(given, str) else given
    return {"tool_use_id": identity, "content": text, "is_error": failed}


def media_url(content: Content) -> str:
    """Return the URL of an image or a document, or a data URL that holds it."""
    return content.get("url") or f"data:{content.get('media_type', '')};base64,{content.get('data', '')}"


def read_media_url(url: str) -> Content:
    """Return the content of a block with this URL: the inverse of `media_url`."""
    head, comma, data = url.partition(";base64,")
    if comma and head.startswith("data:"):
        return {"media_type": head.removeprefix("data:"), "data": data}
    return {"url": url}
