"""Conversions between Bedrock's tool calls and results and turnstream's.

Fields that turnstream has no name for go into `provider_metadata` under `toolUse` or `toolResult`, including
the type of a tool that Bedrock has run. So no other wire mistakes such a block for its own, and this wire
sends it back unchanged.
"""

from __future__ import annotations

from typing import Any

from turnstream.core.blocks import Content
from turnstream.core.tool_input import finish_tool_use
from turnstream.wires.bedrock.media import format_of, media_type_of
from turnstream.wires.shared.histories import INVALID_ARGUMENTS, as_metadata, metadata_of
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object, text_in, without
from turnstream.wires.shared.lenient_json import encode_json

USE = "toolUse"
RESULT = "toolResult"
_CLIENT_TYPE = "tool_use"


def parse_use_start(raw: JsonObject) -> Content:
    """Return the content of a call at its start. Raises ValueError if a field has the wrong type."""
    content: Content = {"tool_use_id": text_in(raw, "toolUseId"), "tool_name": text_in(raw, "name")}
    if (kind := text_in(raw, "type")) and kind != _CLIENT_TYPE:
        content["provider_executed"] = True
    known = ("type",) if kind == _CLIENT_TYPE else ()
    rest = without(raw, "toolUseId", "name", "input", *known)
    return content | as_metadata({USE: rest} if rest else {})


def parse_use(raw: JsonObject) -> Content:
    """Return the content of a complete call. Raises ValueError if a field has the wrong type."""
    given: Any = raw.get("input")
    text = given if isinstance(given, str) else encode_json({} if given is None else given).decode()
    return finish_tool_use(parse_use_start(raw), text)


def dump_use_start(content: Content) -> JsonObject:
    """Return `toolUse` for the start of a block."""
    return {
        "toolUseId": content.get("tool_use_id", ""),
        "name": content.get("tool_name", ""),
        **own_metadata(content, USE),
    }


def dump_use(content: Content) -> JsonObject | None:
    """Return the block of a complete call, or None if another vendor's server ran it."""
    if content.get("provider_executed") and not own_metadata(content, USE):
        return None
    given: Any = content.get("input")
    if not is_object(given):
        given = {INVALID_ARGUMENTS: content.get("input_json", "")}
    return {USE: {**dump_use_start(content), "input": given}}


def parse_result_start(raw: JsonObject) -> Content:
    """Return the content of a result at its start. Raises ValueError if a field has the wrong type.

    Bedrock ran the tool: results of other tools come from the caller.
    """
    return {
        "tool_use_id": text_in(raw, "toolUseId"),
        "content": [],
        "is_error": raw.get("status") == "error",
        "provider_executed": True,
        "provider_metadata": {RESULT: without(raw, "toolUseId", "content")},
    }


def parse_result(raw: JsonObject) -> Content:
    """Return the content of a complete result. Raises ValueError if a field has the wrong type."""
    parts: Any = raw.get("content")
    if not is_list(parts):
        raise ValueError("a result's content is not a list")
    if text_in(raw, "type"):
        return {**parse_result_start(raw), "content": parts}
    rest = without(raw, "toolUseId", "content", "status")
    return {
        "tool_use_id": text_in(raw, "toolUseId"),
        "content": _parse_parts(parts),
        "is_error": raw.get("status") == "error",
        **as_metadata({RESULT: rest} if rest else {}),
    }


def dump_result_start(content: Content) -> JsonObject:
    """Return `toolResult` for the start of a block."""
    failed = {"status": "error"} if content.get("is_error") else {}
    return {"toolUseId": content.get("tool_use_id", ""), **failed, **own_metadata(content, RESULT)}


def dump_result(content: Content, text: str) -> JsonObject | None:
    """Return the block of a complete result, or None if another vendor's server ran the tool."""
    if content.get("provider_executed") and not own_metadata(content, RESULT):
        return None
    return {RESULT: {**dump_result_start(content), "content": dump_parts(content, text)}}


def dump_parts(content: Content, text: str) -> list[JsonObject]:
    """Return a result in the form that the API accepts: texts, JSON objects, images.

    Any other value becomes the text of its JSON.
    """
    value: Any = content.get("content")
    if content.get("provider_executed") and is_list(value):
        return value
    if value is None or isinstance(value, str):
        return [{"text": value or text}]
    if is_list(value):
        parts = [raw for part in value if (raw := _dump_part(part)) is not None]
        if len(parts) == len(value):
            return parts
    return [{"json": value}] if is_object(value) else [{"text": encode_json(value).decode()}]


def own_metadata(content: Content, key: str) -> JsonObject:
    """Return the metadata that this wire has stored for a call or a result, empty if it has not."""
    kept = metadata_of(content).get(key)
    return kept if is_object(kept) else {}


def _parse_parts(parts: list[Any]) -> Any:
    """Return a string for a single text, the object for a single JSON object, else a list of typed parts."""
    match parts:
        case [{"text": str(text), **rest}] if not rest:
            return text
        case [{"json": value, **rest}] if not rest and is_object(value) and "type" not in value:
            return value
        case _:
            return [_parse_part(part) for part in parts]


def _parse_part(part: Any) -> JsonObject:
    match part:
        case {"text": str(text), **rest} if not rest:
            return {"type": "text", "text": text}
        case {"image": {"format": str(name), "source": {"bytes": str(data)}}, **rest} if not rest:
            source = {"type": "base64", "media_type": media_type_of(name, "image"), "data": data}
            return {"type": "image", "source": source}
        case _ if is_object(part):
            return {"type": "bedrock", **part}
        case _:
            raise ValueError("a part of a result is not an object")


def _dump_part(part: Any) -> JsonObject | None:
    """Return a part in Bedrock's shape, or None if it is not a part."""
    match part:
        case {"type": "text", "text": str(text)}:
            return {"text": text}
        case {
            "type": "image",
            "source": {"type": "base64", "media_type": str(media_type), "data": str(data)},
        }:
            return {"image": {"format": format_of(media_type), "source": {"bytes": data}}}
        case {"type": "image", "media_type": str(media_type), "data": str(data)}:
            return {"image": {"format": format_of(media_type), "source": {"bytes": data}}}
        case {"type": "bedrock"}:
            return without(part, "type")
        case _:
            return None


def opens_block(name: str, value: Any) -> bool:
    """Return True if a delta has enough content to begin a new block after another.

    A signature without thinking does not.
    """
    if name == "toolUse":
        return bool(input_text(value).strip())
    if name == "reasoningContent":
        return any(said for field, said in value.items() if field != "signature")
    return bool(value)


def input_text(use: JsonObject) -> str:
    """Return a piece of a call's arguments as JSON text. Some models send an object instead of text."""
    value = use.get("input")
    if value is None or isinstance(value, str):
        return value or ""
    return encode_json(value).decode()
