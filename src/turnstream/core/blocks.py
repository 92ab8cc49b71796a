"""Blocks: the typed pieces of a turn, as they are stored and shown."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import msgspec

BlockType: TypeAlias = Literal[
    "text",
    "thinking",
    "tool_use",
    "tool_result",
    "image",
    "document",
    "reference",
    "partial_reference",
    "provider",
]
BLOCK_TYPES: frozenset[str] = frozenset(get_args(BlockType))

Content: TypeAlias = dict[str, Any]


class Block(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One finished (or, when `partial`, cut off) piece of a turn.

    `content` by type:
      text         `{citations?: [...]}`
      thinking     `{signature?}`, or `{redacted: "…"}` where the provider shows only an encrypted form
      tool_use     `{tool_use_id, tool_name, input, input_json, input_error?, free_text?, provider_executed?}`
      tool_result  `{tool_use_id, content, is_error, provider_executed?}`
      image        `{media_type, data}` (base64) or `{url}`
      document     `{media_type, data, title?}` (base64), `{url, media_type?, title?}` or `{text, title?}`
      provider     what one vendor alone has, kept as it was sent
    Any of them may hold `provider_metadata`: leftovers of the vendor that matter when it is sent back; and `origin`: who
    said it, with a digest (`core.origin`), where it may go back to nobody else.
    """

    sequence: int
    block_type: BlockType
    text_content: str | None = None
    content: Content | None = None
    partial: bool = False


class Message(msgspec.Struct, frozen=True, gc=False):
    """What one side said: a turn's blocks without their storage."""

    role: Literal["user", "assistant"]
    blocks: tuple[Block, ...]
