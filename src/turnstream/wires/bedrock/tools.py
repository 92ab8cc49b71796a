"""Tool calls and results in Bedrock's shape and in ours.

What ours has no word for, the type of a tool that Bedrock ran itself included, goes into `provider_metadata` under
`toolUse` or `toolResult`: so no other wire takes such a block for its own, and this one sends it back as it came.
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
    """The content of a call that begins. Raises ValueError where a field has another type."""
    content: Content = {"tool_use_id": text_in(raw, "toolUseId"), "tool_name": text_in(raw, "name")}
    if (kind := text_in(raw, "type")) and kind != _CLIENT_TYPE:
        content["provider_executed"] = True
    known = ("type",) if kind == _CLIENT_TYPE else ()
    rest = without(raw, "toolUseId", "name", "input", *known)
    return content | as_metadata({USE: rest} if rest else {})


def parse_use(raw: JsonObject) -> Content:
    """The content of a whole call. Raises ValueError."""
    given: Any = raw.get("input")
    text = given if isinstance(given, str) else encode_json({} if given is None else given).decode()
    return finish_tool_use(parse_use_start(raw), text)


def dump_use_start(content: Content) -> JsonObject:
    """`toolUse` of a block's start."""
    return {
        "toolUseId": content.get("tool_use_id", ""),
        "name": content.get("tool_name", ""),
        **own_metadata(content, USE),
    }


def dump_use(content: Content) -> JsonObject | None:
    """The block of a whole call; None for one that another vendor's server ran."""
    if content.get("provider_executed") and not own_metadata(content, USE):
        return None
    given: Any = content.get("input")
    if not is_object(given):
        given = {INVALID_ARGUMENTS: content.get("input_json", "")}
    return {USE: {**dump_use_start(content), "input": given}}


def parse_result_start(raw: JsonObject) -> Content:
    """The content of a result that begins: of a tool that Bedrock ran, since others come from us. Raises ValueError."""
    return {
        "tool_use_id": text_in(raw, "toolUseId"),
        "content": [],
        "is_error": raw.get("status") == "error",
        "provider_executed": True,
        "provider_metadata": {RESULT: without(raw, "toolUseId", "content")},
    }


def parse_result(raw: JsonObject) -> Content:
    """The content of a whole result. Raises ValueError."""
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
    """`toolResult` of a block's start."""
    failed = {"status": "error"} if content.get("is_error") else {}
    return {"toolUseId": content.get("tool_use_id", ""), **failed, **own_metadata(content, RESULT)}


def dump_result(content: Content, text: str) -> JsonObject | None:
    """The block of a whole result; None for one of a tool that another vendor's server ran."""
    if content.get("provider_executed") and not own_metadata(content, RESULT):
        return None
    return {RESULT: {**dump_result_start(content), "content": dump_parts(content, text)}}


def dump_parts(content: Content, text: str) -> list[JsonObject]:
    """Return a result as the API takes it: texts, JSON objects, images; any other value as the text of its JSON."""
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
    """Return what this wire kept of a call or a result; empty if another vendor's did."""
    kept = metadata_of(content).get(key)
    return kept if is_object(kept) else {}


def _parse_parts(parts: list[Any]) -> Any:
    """One text as a string, one JSON object as itself; else a list of parts, each with its type."""
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
    """A part in Bedrock's shape, or None where it is no part."""
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
    """Return True if a delta says enough to begin a block beside another: a signature without thinking does not."""
    if name == "toolUse":
        return bool(input_text(value).strip())
    if name == "reasoningContent":
        return any(said for field, said in value.items() if field != "signature")
    return bool(value)


def input_text(use: JsonObject) -> str:
    """Return a piece of a call's arguments: JSON text, or, from some models, the object itself as text."""
    value = use.get("input")
    if value is None or isinstance(value, str):
        return value or ""
    return encode_json(value).decode()
