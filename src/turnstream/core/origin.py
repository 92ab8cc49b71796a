"""Where a block came from, and whether it is still as it came (docs/adr/0005).

Thinking, and what else a provider signs, encrypts or alone understands, goes back to whoever said it, unchanged, or not at
all. So such a block is stored with its origin: `content["origin"]`, `{wire, provider, model, digest}`. The fold puts it
there when the block ends; `returnable_blocks` reads it when a history goes out again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from turnstream.core.blocks import Block, Content

ORIGIN = "origin"

_SEALED_TYPES = frozenset({"thinking", "provider"})
_OPAQUE = ("signature", "provider_metadata")
_MARKS = frozenset({*_OPAQUE, "redacted", "provider_executed"})
_NOT_DIGESTED = frozenset({ORIGIN, "tool_use_id"})
"""The id of a call may change on its way back: a history needs each to be unique."""
_DIGEST_LENGTH = 32


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Who said something: the wire, the provider by our name, the model by the provider's."""

    wire: str
    provider: str
    model: str


def seal_of(block: Block, origin: Origin) -> Content | None:
    """What `block`, whole, gains: its origin with its digest. None for a block that anybody may be told."""
    content = block.content or {}
    if block.block_type not in _SEALED_TYPES and _MARKS.isdisjoint(content):
        return None
    return {ORIGIN: {**msgspec.structs.asdict(origin), "digest": _digest(block)}}


def returnable_blocks(blocks: Iterable[Block], accepts: Callable[[Origin], bool]) -> tuple[Block, ...]:
    """The blocks of a history as they may go out, without their origins.

    Of a block whose origin `accepts` refuses, or that is no longer as it came, the opaque parts stay here; and the whole
    block where it is nothing else: thinking, what only one provider knows, and what its own tools were asked and
    answered. A block without an origin stays as it is.
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
    """The id of what a provider's own tool was asked, or answered."""
    content = block.content or {}
    return str(content.get("tool_use_id") or "") if content.get("provider_executed") else None


def _without(block: Block, *names: str) -> Block:
    content = block.content
    if content is None or not any(name in content for name in names):
        return block
    rest = {key: value for key, value in content.items() if key not in names}
    return msgspec.structs.replace(block, content=rest or None)


def _digest(block: Block) -> str:
    """Of type, text and content. Storage and history may change the block's place and its call's id, nothing else."""
    content = block.content or {}
    told = {key: value for key, value in content.items() if key not in _NOT_DIGESTED}
    data = msgspec.json.encode((block.block_type, block.text_content or "", told), order="deterministic")
    return hashlib.sha256(data).hexdigest()[:_DIGEST_LENGTH]
