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

_SHOWN_LENGTH = 60
"""Characters of a text that a `repr` shows."""


class Block(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One piece of a turn: finished, or cut off if `partial`.

    `content` by type:
      text         `{citations?: [...]}`
      thinking     `{signature?}`, or `{redacted: "…"}` if the provider sends only an encrypted form
      tool_use     `{tool_use_id, tool_name, input, input_json, input_error?, free_text?, provider_executed?}`
      tool_result  `{tool_use_id, content, is_error, provider_executed?}`
      image        `{media_type, data}` (base64) or `{url}`
      document     `{media_type, data, title?}` (base64), `{url, media_type?, title?}` or `{text, title?}`
      provider     fields of one vendor, as the vendor sent them
    Any type may have `provider_metadata`: vendor fields that must be sent back with the block. A block that
    only its own provider may get back has `origin`: the provider, with a digest (see `core.origin`).
    """

    sequence: int
    block_type: BlockType
    text_content: str | None = None
    content: Content | None = None
    partial: bool = False


class Message(msgspec.Struct, frozen=True, gc=False):
    """The blocks of one turn without their storage. `role` says which side wrote them."""

    role: Literal["user", "assistant"]
    blocks: tuple[Block, ...]

    @property
    def text(self) -> str:
        """Texts of the text blocks, joined."""
        return "".join(block.text_content or "" for block in self.blocks if block.block_type == "text")

    def __repr__(self) -> str:
        return f"<Message of {self.role}, {len(self.blocks)} blocks: {beginning(self.text)!r}>"

    def _repr_markdown_(self) -> str | None:
        """Return the text, for a notebook to render. None without text: the notebook shows the `repr`."""
        return self.text or None


def beginning(text: str) -> str:
    """Return the beginning of a text, for a `repr`."""
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}…"


def call_id(block: Block) -> str:
    """Return the id of the tool call that the block is, or answers. Empty if it has none."""
    return str((block.content or {}).get("tool_use_id") or "")


def is_provider_executed(block: Block) -> bool:
    """Return True for a call that the provider runs itself, and for its result."""
    return bool((block.content or {}).get("provider_executed"))


def is_client_call(block: Block) -> bool:
    """Return True for a tool call that the provider does not run itself."""
    return block.block_type == "tool_use" and not is_provider_executed(block)


def is_client_result(block: Block) -> bool:
    """Return True for the result of a tool call that the provider does not run itself."""
    return block.block_type == "tool_result" and not is_provider_executed(block)
