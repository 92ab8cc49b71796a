"""Items of this server on their way through a client: reasoning with a signature, and ids of this server.

A provider's signature of thinking goes to the client as the `encrypted_content` of a reasoning item, sealed
with the origin of its block. Redacted thinking goes the same way, with a prefix. Ids of items that this
server has made mean nothing to a provider, and are removed.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from turnstream.core.blocks import Block, BlockType, Content, Message
from turnstream.core.stream_events import ContentBlockStart, ContentDelta, SignatureDelta, StreamEvent
from turnstream.dialects.openai_responses.ids import turn_of_item
from turnstream.dialects.provider_shaped.origin_seal import PREFIX
from turnstream.wires.openai_responses.items import KEY, own_metadata

_REDACTED = "redacted."


def with_encrypted_content(block_type: BlockType, events: Sequence[StreamEvent]) -> list[StreamEvent]:
    """Return the events of a block with its signature, or its redacted thinking, as encrypted content.

    Only items of reasoning have encrypted content. The signature of another block is left out.
    """
    shown: list[StreamEvent] = []
    for event in events:
        if isinstance(event, SignatureDelta):
            if block_type == "thinking":
                shown.append(ContentDelta(event.index, _encrypted(event.signature)))
        elif isinstance(event, ContentBlockStart) and "redacted" in (event.content or {}):
            given = event.content or {}
            kept = {name: value for name, value in given.items() if name != "redacted"}
            shown.append(replace(event, content=kept | _encrypted(_REDACTED + str(given["redacted"]))))
        else:
            shown.append(event)
    return shown


def returned(message: Message) -> Message:
    """Return a client's message with its blocks as they were before they were shown to the client."""
    return Message(message.role, tuple(_returned(block) for block in message.blocks))


def _encrypted(value: str) -> Content:
    return {"provider_metadata": {KEY: {"encrypted_content": value}}}


def _returned(block: Block) -> Block:
    own = own_metadata(block.content)
    sealed = own.get("encrypted_content")
    given: Content = block.content or {}
    if isinstance(sealed, str) and sealed.removeprefix(_REDACTED).startswith(PREFIX):
        field = "redacted" if sealed.startswith(_REDACTED) else "signature"
        content = {name: value for name, value in given.items() if name != "provider_metadata"}
        return replace(block, content={**content, field: sealed.removeprefix(_REDACTED)})
    if turn_of_item(str(own.get("id"))) is None:
        return block
    kept = {name: value for name, value in own.items() if name not in ("id", "status")}
    others = {name: value for name, value in given["provider_metadata"].items() if name != KEY}
    metadata = {**others, KEY: kept} if kept.keys() - {"type"} else others
    content = {name: value for name, value in given.items() if name != "provider_metadata"}
    if metadata:
        content["provider_metadata"] = metadata
    return replace(block, content=content or None)
