"""Origins of a request's blocks, and work on large conversations in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar, cast

import msgspec

from turnstream.core.blocks import Block, Message
from turnstream.core.origin import ORIGIN, Origin, returnable_blocks
from turnstream.core.stream_events import MessageStart, StreamEvent
from turnstream.providers.capabilities import capabilities_of
from turnstream.wires.base import WIRE_PARAMS, ModelRequest

LARGE_BLOCKS = 256
"""Blocks above which a conversation is large."""
LARGE_TEXT = 256 * 1024
"""Characters above which a conversation is large."""

Result = TypeVar("Result")


class HistoryMessage(Protocol):
    """A message, or an earlier turn."""

    @property
    def blocks(self) -> Sequence[Block]: ...


async def run_work(conversation: Iterable[HistoryMessage], work: Callable[[], Result]) -> Result:
    """Return the result of `work`. It runs in a thread if `conversation` is large."""
    if not is_large(conversation):
        return work()
    return await asyncio.to_thread(work)


def is_large(conversation: Iterable[HistoryMessage]) -> bool:
    """Return True if a conversation has so many blocks, or so much text, that work on it runs in a thread."""
    count = size = 0
    for said in conversation:
        count += len(said.blocks)
        if count > LARGE_BLOCKS:
            return True
        for block in said.blocks:
            size += len(block.text_content or "")
            if block.content:
                size += sum(len(value) for value in block.content.values() if value.__class__ is str)
        if size > LARGE_TEXT:
            return True
    return False


def with_origin(events: Sequence[StreamEvent], origin: Origin) -> list[StreamEvent]:
    """Return `events` with the origin added to the start of the message."""
    return [
        msgspec.structs.replace(event, origin=origin) if type(event) is MessageStart else event
        for event in events
    ]


def request_for(request: ModelRequest, called: Origin) -> ModelRequest:
    """Return `request` as `called` gets it: with the params for its wire only, and without others' blocks."""
    return _with_own_blocks(_with_own_params(request, called.wire), called)


def _with_own_params(request: ModelRequest, wire: str) -> ModelRequest:
    by_wire = request.params.get(WIRE_PARAMS)
    if by_wire is None:
        return request
    params = {name: value for name, value in request.params.items() if name != WIRE_PARAMS}
    params |= cast("dict[str, dict[str, Any]]", by_wire).get(wire) or {}
    return msgspec.structs.replace(request, params=params)


def _with_own_blocks(request: ModelRequest, called: Origin) -> ModelRequest:
    """Return `request` without the blocks that `called` must not receive.

    These are blocks that another provider sealed, sealed blocks that have changed since, and thinking of
    another model if either model binds its thinking to itself.
    """
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
