"""Conversions between the content blocks of Converse's messages and turnstream's blocks.

A block type that only Bedrock has (guarded text, a video, a cache point) becomes a raw `provider` block.
"""

from __future__ import annotations

import re
from typing import Any

from turnstream.core.blocks import Block, Content
from turnstream.wires.bedrock.media import format_of, media_type_of
from turnstream.wires.bedrock.tools import dump_result, dump_use, parse_result, parse_use
from turnstream.wires.shared.histories import as_metadata, metadata_of
from turnstream.wires.shared.json_values import JsonObject, is_object, list_in, without

_OWN_BLOCKS = frozenset(
    {
        "audio", "cachePoint", "citationsContent", "document", "guardContent", "image",
        "searchResult", "toolAddition", "toolRemoval", "video",
    }
)  # fmt: skip
_CITATION_FIELDS = frozenset({"title", "source", "sourceContent", "location"})
_NAME_TAKES_NO = re.compile(r"[^A-Za-z0-9_()\[\]-]+")
_DEFAULT_NAME = "document"


def parse_block(sequence: int, raw: JsonObject) -> Block:
    """Return a block of a message. Raises ValueError if a known field has the wrong type."""
    match raw:
        case {"text": str(text), **rest} if not rest:
            return Block(sequence, "text", text)
        case {"toolUse": use} if is_object(use):
            return Block(sequence, "tool_use", None, parse_use(use))
        case {"toolResult": result} if is_object(result):
            return Block(sequence, "tool_result", None, parse_result(result))
        case {"reasoningContent": {"reasoningText": {"text": str(text), **rest}}}:
            signature: Any = rest.get("signature")
            return Block(sequence, "thinking", text, {"signature": signature} if signature else None)
        case {"reasoningContent": {"redactedContent": str(data)}}:
            return Block(sequence, "thinking", "", {"redacted": data})
        case {"citationsContent": cited} if is_object(cited):
            texts = [str(part.get("text", "")) for part in list_in(cited, "content") if is_object(part)]
            return Block(sequence, "text", "".join(texts), {"citations": list_in(cited, "citations")})
        case {"image": image} if is_object(image) and (content := _parse_source(image, "image")) is not None:
            return Block(sequence, "image", None, content)
        case {"document": document} if (
            is_object(document) and (content := _parse_document(document)) is not None
        ):
            return Block(sequence, "document", None, content)
        case _:
            return Block(sequence, "provider", None, dict(raw))


def returned_block(block: Block) -> JsonObject | None:
    """Return a block of the history in the form that Bedrock accepts, or None if Bedrock would refuse it.

    Bedrock refuses thinking without a signature, partial thinking, and blank text. It also refuses another
    vendor's blocks: those of its server tools, and those of types that only that vendor has.
    """
    content = block.content or {}
    text = block.text_content or ""
    match block.block_type:
        case "text" | "reference" | "partial_reference":
            return _dump_text(text, content) if text.strip() else None
        case "thinking":
            return None if block.partial else dump_thinking(text, content)
        case "tool_use":
            return dump_use(content)
        case "tool_result":
            return dump_result(content, text)
        case "image":
            return _dump_image(content)
        case "document":
            return _dump_document(content)
        case "provider":
            known = len(content) == 1 and content.keys() <= _OWN_BLOCKS and not block.partial
            return dict(content) if known else None


def dump_thinking(text: str, content: Content) -> JsonObject | None:
    """Return thinking in Bedrock's shape, or None if it has no signature."""
    if "redacted" in content:
        return {"reasoningContent": {"redactedContent": content["redacted"]}}
    if not content.get("signature"):
        return None
    return {"reasoningContent": {"reasoningText": {"text": text, "signature": content["signature"]}}}


def _dump_text(text: str, content: Content) -> JsonObject:
    citations = list_in(content, "citations")
    if citations and all(is_object(c) and c.keys() <= _CITATION_FIELDS for c in citations):
        return {"citationsContent": {"content": [{"text": text}], "citations": citations}}
    return {"text": text}


def _parse_source(raw: JsonObject, family: str) -> Content | None:
    """Return the content of an image or a document, or None if its source has no equivalent in turnstream."""
    name, source = raw.get("format"), raw.get("source")
    content: Content = {"media_type": media_type_of(name, family)} if isinstance(name, str) else {}
    rest = without(raw, "format", "source", "name")
    match source:
        case {"bytes": str(data)}:
            content["data"] = data
        case {"s3Location": {"uri": str(uri), **more}}:
            content["url"] = uri
            rest |= more
        case {"text": str(text)}:
            content["text"] = text
        case _:
            return None
    return content | as_metadata(rest)


def _parse_document(raw: JsonObject) -> Content | None:
    content = _parse_source(raw, "application")
    name = raw.get("name")
    return content if content is None or not name else {**content, "title": name}


def _dump_image(content: Content) -> JsonObject:
    source = _dump_source(content)
    if source is None:
        return {"text": f"[image: {content.get('url', '')}]"}
    return {"image": {"format": _format(content, source, "png"), "source": source}}


def _dump_document(content: Content) -> JsonObject:
    """Return a document. Its name contains only the characters that the API allows."""
    text = content.get("text")
    source = {"text": text} if text else _dump_source(content)
    if source is None:
        return {"text": f"[document: {content.get('url', '')}]"}
    name = _NAME_TAKES_NO.sub(" ", str(content.get("title") or "")).strip() or _DEFAULT_NAME
    default = "txt" if text else "pdf"
    return {
        "document": {
            "format": _format(content, source, default),
            "name": name,
            "source": source,
            **_details(content, "context", "citations"),
        }
    }


def _dump_source(content: Content) -> JsonObject | None:
    """Return the source with the bytes, or None for an address that Bedrock cannot load."""
    url = content.get("url")
    if not url:
        return {"bytes": content.get("data", "")}
    url = str(url)
    if url.startswith("s3://"):
        return {"s3Location": {"uri": url, **_details(content, "bucketOwner")}}
    head, comma, data = url.partition(";base64,")
    return {"bytes": data} if comma and head.startswith("data:") else None


def _format(content: Content, source: JsonObject, default: str) -> str:
    """Return the format by the media type, or by the file extension of an S3 address."""
    media_type, url = content.get("media_type"), str(content.get("url") or "")
    if not media_type and url.startswith("data:"):
        media_type = url.removeprefix("data:")
    if media_type:
        return format_of(str(media_type)) or default
    ending = (
        url.rpartition("/")[2].rpartition(".")[2].lower() if "s3Location" in source and "." in url else ""
    )
    return {"jpg": "jpeg"}.get(ending, ending) or default


def _details(content: Content, *keys: str) -> JsonObject:
    """Return those of `keys` that this wire has stored as metadata of the content."""
    kept = metadata_of(content)
    return {key: kept[key] for key in keys if key in kept}
