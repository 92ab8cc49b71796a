"""Estimated tokens of requests and of answers, for calls whose usage no provider reports.

output tokens   bytes of UTF-8 of the output, thinking and tool arguments included, divided by 4
input tokens    bytes of the request's texts, divided by 4, plus 1,000 for each image, plus 3,000 for each
                document that is not text
"""

from __future__ import annotations

import msgspec

from turnstream.core.blocks import Block
from turnstream.wires.base import ModelRequest

BYTES_PER_TOKEN = 4
TOKENS_PER_IMAGE = 1000
TOKENS_PER_DOCUMENT = 3000
"""Tokens of a document without text: about two pages of a PDF."""


def estimated_input_tokens(request: ModelRequest) -> int:
    """Return the estimated tokens of a request, from the size of its texts."""
    size = _size(request.system or "")
    seen = 0
    for message in request.messages:
        for block in message.blocks:
            if block.block_type == "image":
                seen += TOKENS_PER_IMAGE
            elif block.block_type == "document" and not (block.content or {}).get("text"):
                seen += TOKENS_PER_DOCUMENT
            else:
                size += _size_of(block)
    size += sum(len(msgspec.json.encode(tool)) for tool in request.tools)
    return tokens_of(size) + seen


def output_bytes_of(block: Block) -> int:
    """Return the bytes of a block's model output: text, thinking and tool arguments. Results count as 0."""
    return _size_of(block) if block.block_type in {"text", "thinking", "tool_use"} else 0


def _size_of(block: Block) -> int:
    content = block.content or {}
    text = block.text_content or ""
    if block.block_type == "tool_use":
        return _size(text) + _size(content.get("input_json") or "") + _size(content.get("tool_name") or "")
    if block.block_type == "tool_result":
        result = content.get("content")
        return _size(text) + (_size(result) if isinstance(result, str) else len(msgspec.json.encode(result)))
    return _size(text) + (_size(content["text"]) if block.block_type == "document" else 0)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def tokens_of(size: int) -> int:
    """Return the estimated tokens of a number of bytes."""
    return -(-size // BYTES_PER_TOKEN)
