"""Conversions between Anthropic's content blocks and turnstream's blocks.

Fields that turnstream has no name for go into `content.provider_metadata`, including the `type` of a server
tool, so that a block returns to the provider unchanged. A block type that only this provider has becomes a
raw `provider` block.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from turnstream.core.blocks import Block, BlockType, Content
from turnstream.core.origin import ORIGIN
from turnstream.errors import InvalidRequest
from turnstream.wires.shared.histories import INVALID_ARGUMENTS, as_metadata, metadata_of
from turnstream.wires.shared.json_values import is_list, is_object, is_one_of, text_in, without
from turnstream.wires.shared.lenient_json import encode_json
from turnstream.wires.shared.normal_params import document_text, without_title

RawBlock: TypeAlias = dict[str, Any]

CLIENT_TOOL_USE = "tool_use"
CLIENT_TOOL_RESULT = "tool_result"
USERS_OWN = frozenset({"document", "image", "search_result"})
"""Block types that belong to the user's side if they are raw `provider` blocks.

Such a block is raw because its source has no equivalent in turnstream.
"""
_RETURNABLE = USERS_OWN | {"compaction", "fallback", "container_upload", "mcp_tool_listing"}
_CITATION_TYPES = frozenset(
    {
        "char_location", "page_location", "content_block_location", "search_result_location",
        "web_search_result_location",
    }
)  # fmt: skip
_RETURNABLE_METADATA = frozenset(
    {"type", "caller", "server_name", "toolset_name", "cache_control", "citations", "context"}
)
_PDF = "application/pdf"
_RESULT_PARTS = frozenset({"text", "image", "document", "search_result", "tool_reference"})


class ParsedBlock(NamedTuple):
    """A block in turnstream's shape.

    `text` holds the content that a stream sends in deltas: text, thinking, or a tool's input JSON.
    """

    block_type: BlockType
    content: Content | None
    text: str
    signature: str


def parse_block(raw: RawBlock) -> ParsedBlock:
    """Return Anthropic's block in turnstream's shape.

    Raises ValueError if a known field has the wrong type.
    """
    kind = text_in(raw, "type")
    if kind == "text":
        content: Content = {"citations": citations} if (citations := raw.get("citations")) else {}
        return _parsed("text", content | _leftovers(raw, "type", "text", "citations"), text_in(raw, "text"))
    if kind == "thinking":
        content = _leftovers(raw, "type", "thinking", "signature")
        return _parsed("thinking", content, text_in(raw, "thinking"), text_in(raw, "signature"))
    if kind == "redacted_thinking":
        return _parsed("thinking", {"redacted": text_in(raw, "data"), **_leftovers(raw, "type", "data")})
    if kind == CLIENT_TOOL_USE or kind.endswith("_tool_use"):
        return _parse_tool_use(kind, raw)
    if kind == CLIENT_TOOL_RESULT or kind.endswith("_tool_result"):
        return _parse_tool_result(kind, raw)
    if kind == "image" and (image := _parse_source(raw)) is not None:
        return _parsed("image", image)
    if kind == "document" and (document := _parse_document(raw)) is not None:
        return _parsed("document", document)
    return _parsed("provider", dict(raw))


def dump_block(block_type: BlockType, content: Content | None, text: str = "") -> RawBlock:
    """Return the block in Anthropic's shape. The inverse of `parse_block`, except for the signature."""
    content = content or {}
    metadata = metadata_of(content)
    match block_type:
        case "text":
            citations = {"citations": content["citations"]} if content.get("citations") else {}
            return {"type": "text", "text": text, **citations, **metadata}
        case "thinking":
            if "redacted" in content:
                return {"type": "redacted_thinking", "data": content["redacted"], **metadata}
            signature = content.get("signature", "")
            return {"type": "thinking", "thinking": text, "signature": signature, **metadata}
        case "tool_use":
            return {
                "type": CLIENT_TOOL_USE,
                "id": content.get("tool_use_id", ""),
                "name": content.get("tool_name", ""),
                "input": content.get("input") or {},
                **metadata,
            }
        case "tool_result":
            return _dump_tool_result(content, metadata, text)
        case "image":
            return {"type": "image", "source": _image_source(content), **metadata}
        case "document":
            title = {"title": content["title"]} if content.get("title") else {}
            return {"type": "document", "source": _document_source(content), **title, **metadata}
        case _:
            return {"type": block_type, **without(content, ORIGIN)}


def is_expressible(block_type: BlockType, content: Content | None) -> bool:
    """Return False for the call or the result of a tool that another vendor runs.

    `dump_block` would turn it into a call for the client.
    """
    content = content or {}
    if block_type not in ("tool_use", "tool_result") or not content.get("provider_executed"):
        return True
    return _own_type(content).endswith(f"_{block_type}")


def returned_block(block: Block, *, unsigned: bool = False) -> RawBlock | None:
    """Return a block of the history in the form that this provider accepts, or None if it would refuse it.

    The provider refuses thinking without a signature, partial thinking, and blank text. It also refuses
    another vendor's blocks: those of its server tools, and those of types that only that vendor has.

    Args:
        unsigned: True for a provider that does not sign thinking and needs it back.
    """
    content = _without_foreign_metadata(block.content or {})
    text = block.text_content or ""
    match block.block_type:
        case "text" | "reference" | "partial_reference":
            return _returned_text(text, content) if text.strip() else None
        case "thinking":
            signed = content.get("redacted") or content.get("signature")
            if block.partial or not (signed or (unsigned and text.strip())):
                return None
            return dump_block("thinking", content, text)
        case "tool_use":
            return _returned_tool_use(content)
        case "tool_result":
            return _returned_tool_result(content, text)
        case "image" | "document":
            return dump_block(block.block_type, content)
        case "provider":
            known = _is_returnable(content) and not block.partial and content.get("content") != ""
            return dump_block("provider", content) if known else None


def _parse_tool_use(kind: str, raw: RawBlock) -> ParsedBlock:
    content: Content = {"tool_use_id": text_in(raw, "id"), "tool_name": text_in(raw, "name")}
    given: Any = raw.get("input")
    if is_object(given) and given:
        content["input"] = given
    if kind == CLIENT_TOOL_USE:
        content |= _leftovers(raw, "type", "id", "name", "input")
    else:
        content |= {"provider_executed": True, **_leftovers(raw, "id", "name", "input")}
    return _parsed("tool_use", content, given if isinstance(given, str) else "")


def _parse_tool_result(kind: str, raw: RawBlock) -> ParsedBlock:
    value: Any = raw.get("content")
    failed = raw.get("is_error") is True
    content: Content = {"tool_use_id": text_in(raw, "tool_use_id"), "content": value, "is_error": failed}
    if kind == CLIENT_TOOL_RESULT:
        return _parsed("tool_result", content | _leftovers(raw, "type", "tool_use_id", "content", "is_error"))
    if is_object(value) and str(value.get("type")).endswith("_error"):
        content["is_error"] = True
    return _parsed(
        "tool_result", content | {"provider_executed": True, **_leftovers(raw, "tool_use_id", "content")}
    )


def _parse_source(raw: RawBlock, *known: str) -> Content | None:
    match raw.get("source"):
        case {"type": "base64", "media_type": str(media_type), "data": str(data)}:
            return {"media_type": media_type, "data": data, **_leftovers(raw, "type", "source", *known)}
        case {"type": "url", "url": str(url)}:
            return {"url": url, **_leftovers(raw, "type", "source", *known)}
        case _:
            return None


def _parse_document(raw: RawBlock) -> Content | None:
    match raw.get("source"):
        case {"type": "text", "data": str(text)}:
            found: Content | None = {"text": text, **_leftovers(raw, "type", "source", "title")}
        case _:
            found = _parse_source(raw, "title")
    title = text_in(raw, "title")
    return {**found, "title": title} if found is not None and title else found


def _dump_tool_result(content: Content, metadata: dict[str, Any], text: str) -> RawBlock:
    raw: RawBlock = {
        "type": CLIENT_TOOL_RESULT,
        "tool_use_id": content.get("tool_use_id", ""),
        "content": content.get("content"),
    }
    if not content.get("provider_executed"):
        raw["content"] = _result_content(raw["content"], text)
        if content.get("is_error"):
            raw["is_error"] = True
    return {**raw, **metadata}


def _result_content(value: Any, text: str) -> Any:
    """Return a client tool's result in the form that the API accepts: text, or a list of content parts.

    Any other value becomes JSON text.
    """
    if value is None:
        return text
    if isinstance(value, str):
        return value
    if is_list(value) and all(_is_of(part, _RESULT_PARTS) for part in value):
        return value
    return encode_json(value).decode()


def _is_of(value: Any, types: frozenset[str]) -> bool:
    return is_object(value) and is_one_of(value.get("type"), types)


def _document_source(content: Content) -> RawBlock:
    """Return the source of a document. Raises InvalidRequest if the API cannot read its media type."""
    if (text := document_text(without_title(content))) is not None:
        return {"type": "text", "media_type": "text/plain", "data": text}
    media_type = content.get("media_type") or ""
    if not content.get("url") and media_type != _PDF:
        raise InvalidRequest(
            f"this model's API cannot read documents of type {media_type!r}: give a PDF, an address or text"
        )
    return _image_source(content)


def _image_source(content: Content) -> RawBlock:
    if "url" in content:
        return {"type": "url", "url": content["url"]}
    return {"type": "base64", "media_type": content.get("media_type", ""), "data": content.get("data", "")}


def _without_foreign_metadata(content: Content) -> Content:
    """Return the content without metadata of another vendor's wire, which the API would refuse as unknown."""
    metadata = content.get("provider_metadata")
    if not is_object(metadata) or content.get("provider_executed"):
        return content
    known = {key: value for key, value in metadata.items() if key in _RETURNABLE_METADATA}
    return {**content, "provider_metadata": known}


def _returned_text(text: str, content: Content) -> RawBlock:
    citations = content.get("citations")
    if not is_list(citations) or not all(_is_of(citation, _CITATION_TYPES) for citation in citations):
        content = without(content, "citations")
    return dump_block("text", content, text)


def _returned_tool_use(content: Content) -> RawBlock | None:
    if not is_expressible("tool_use", content):
        return None
    if not is_object(content.get("input")):
        content = {**content, "input": {INVALID_ARGUMENTS: content.get("input_json", "")}}
    return dump_block("tool_use", content)


def _returned_tool_result(content: Content, text: str) -> RawBlock | None:
    if not is_expressible("tool_result", content):
        return None
    return dump_block("tool_result", content, text)


def _is_returnable(content: Content) -> bool:
    """Return True if the API accepts this raw block. Another vendor's compaction lacks readable content."""
    kind = content.get("type")
    return is_one_of(kind, _RETURNABLE) and (kind != "compaction" or "content" in content)


def _own_type(content: Content) -> str:
    """Return the type with which this provider sent a server tool's block, or "" if another vendor did."""
    return str(metadata_of(content).get("type", ""))


def _leftovers(raw: RawBlock, *known: str) -> Content:
    return as_metadata(without(raw, *known))


def _parsed(
    block_type: BlockType, content: Content | None = None, text: str = "", signature: str = ""
) -> ParsedBlock:
    return ParsedBlock(block_type, content or None, text, signature)
