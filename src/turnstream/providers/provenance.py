"""What a provider says is marked as its own, and what goes out is only what it may get back."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from turnstream.core.blocks import Message
from turnstream.core.origin import ORIGIN, Origin, returnable_blocks
from turnstream.core.stream_events import MessageStart, StreamEvent
from turnstream.providers.capabilities import capabilities_of
from turnstream.wires.base import ModelRequest


def with_origin(events: Sequence[StreamEvent], origin: Origin) -> list[StreamEvent]:
    """`events` whose message's start tells who speaks."""
    return [
        msgspec.structs.replace(event, origin=origin) if type(event) is MessageStart else event
        for event in events
    ]


def with_own_blocks(request: ModelRequest, called: Origin) -> ModelRequest:
    """`request` without what `called` may not be told: blocks that another provider sealed, or that have changed since;
    thinking of another model, where one of both has its thinking bound to itself."""
    if not any(ORIGIN in (block.content or {}) for message in request.messages for block in message.blocks):
        return request

    def accepts(origin: Origin) -> bool:
        if (origin.wire, origin.provider) != (called.wire, called.provider):
            return False
        return origin.model == called.model or not (_is_bound(origin) or _is_bound(called))

    messages = (
        Message(message.role, returnable_blocks(message.blocks, accepts)) for message in request.messages
    )
    return msgspec.structs.replace(request, messages=tuple(message for message in messages if message.blocks))


def _is_bound(origin: Origin) -> bool:
    return capabilities_of(origin.provider, origin.wire, origin.model).thinking_bound
