"""The origin of a block, and the check that the block is unchanged (docs/adr/0005).

Some content, such as thinking, is signed or encrypted by its provider, or only that provider understands it.
It is sent back to that provider unchanged, or not at all. So such a block is stored with its origin:
`content["origin"]`, `{wire, provider, model, digest}`. The fold adds the origin when the block ends.
`returnable_blocks` checks it when a history is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from turnstream.core.blocks import Block, BlockType, Content

ORIGIN = "origin"

_SEALED_TYPES = frozenset({"thinking", "provider"})
_OPAQUE = ("signature", "provider_metadata")
_MARKS = frozenset({*_OPAQUE, "redacted", "provider_executed"})
_NOT_DIGESTED = frozenset({ORIGIN, "tool_use_id"})
"""Keys that do not count.

The id of a call may change on its way back, because ids in a history must be unique.
"""
_DIGEST_LENGTH = 32


class Origin(msgspec.Struct, frozen=True, gc=False):
    """The source of a block: wire, name of the provider in the settings, name of the model there."""

    wire: str
    provider: str
    model: str


def needs_seal(block_type: BlockType, content: Content) -> bool:
    """Return True if the block needs an origin: only its provider can read it, or it has a signature."""
    return block_type in _SEALED_TYPES or not _MARKS.isdisjoint(content)


def seal_of(block: Block, origin: Origin) -> Content:
    """Return the origin of a complete `block`, with its digest, to merge into its content."""
    return {ORIGIN: {**msgspec.structs.asdict(origin), "digest": _digest(block)}}


def returnable_blocks(blocks: Iterable[Block], accepts: Callable[[Origin], bool]) -> tuple[Block, ...]:
    """Return the blocks of a history that may be sent, without their origins.

    A block loses its opaque parts if `accepts` refuses its origin, or if the block has changed. It is left
    out if it has nothing else: thinking, blocks that only one provider knows, and a provider's own tool calls
    with their results. A block without an origin stays as it is.
    """
    given = tuple(blocks)
    unfit = {place for place, block in enumerate(given) if not _is_fit(block, accepts)}
    executed = {_executed_id(given[place]) for place in unfit} - {None}
    kept = (
        _reduced(block) if place in unfit else _without(block, ORIGIN)
        for place, block in enumerate(given)
        if _executed_id(block) not in executed
    )
    return tuple(block for block in kept if block is not None)


def _is_fit(block: Block, accepts: Callable[[Origin], bool]) -> bool:
    stamp: Any = (block.content or {}).get(ORIGIN)
    if stamp is None:
        return True
    match stamp:
        case {"wire": str(wire), "provider": str(provider), "model": str(model), "digest": str(digest)}:
            return accepts(Origin(wire, provider, model)) and digest == _digest(block)
        case _:
            return False


def _reduced(block: Block) -> Block | None:
    return None if block.block_type in _SEALED_TYPES else _without(block, ORIGIN, *_OPAQUE)


def _executed_id(block: Block) -> str | None:
    """Return the id of a provider's own tool call or its result, or None for any other block."""
    content = block.content or {}
    return str(content.get("tool_use_id") or "") if content.get("provider_executed") else None


def _without(block: Block, *names: str) -> Block:
    content = block.content
    if content is None or not any(name in content for name in names):
        return block
    rest = {key: value for key, value in content.items() if key not in names}
    return msgspec.structs.replace(block, content=rest or None)


def _digest(block: Block) -> str:
    """Return the digest of a block's type, text and content.

    The block's index and the id of its call are left out, because storage and history may change them.
    """
    content = block.content or {}
    digested = {key: value for key, value in content.items() if key not in _NOT_DIGESTED}
    data = msgspec.json.encode((block.block_type, block.text_content or "", digested), order="deterministic")
    return hashlib.sha256(data).hexdigest()[:_DIGEST_LENGTH]
