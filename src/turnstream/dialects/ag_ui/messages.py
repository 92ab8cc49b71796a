"""The messages of a run, as a client that has read its events shows them.

    text         one assistant message each
    calls        belong to the assistant message before them, or begin one
    results      tool messages, after the message with their call
    thinking     reasoning messages

Clients fold the events of a run by the same rules. So a snapshot changes nothing that they have shown, unless
text was retracted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec

from turnstream.core.blocks import Block, Content
from turnstream.core.open_block import OpenBlock, open_block_of
from turnstream.core.turn_events import (
    BlockCatchup,
    BlockDelta,
    BlockReset,
    BlockStart,
    BlockStop,
    Notice,
    TurnEvent,
    TurnStart,
)

ChatMessage: TypeAlias = dict[str, Any]

LONGEST_RESULT = 1024 * 1024
"""Characters of a call's result. JSON may need six bytes for one, and clients read frames of 10 MiB."""

_encode = msgspec.json.Encoder().encode


class RunIds(NamedTuple):
    """The ids of a run's messages and calls. They are the same for all watchers of a turn."""

    turn_id: str

    def message(self, index: int) -> str:
        """Return the id of the message that shows the block `index`."""
        return f"{self.turn_id}-{index}"

    def call(self, index: int, content: Content) -> str:
        """Return the id of the call that a block is or answers. Clients refuse an empty one."""
        return str(content.get("tool_use_id") or self.message(index))

    def is_own(self, message_id: object) -> bool:
        """Return True for the id of a message of this run."""
        return isinstance(message_id, str) and message_id.startswith(f"{self.turn_id}-")


def tool_name(content: Content) -> str:
    """Return the name of a call's tool. Clients refuse an empty one."""
    return str(content.get("tool_name") or "unknown")


def result_text(content: Content) -> str:
    """Return the result of a call as text. A note takes the place of a text that is too long."""
    return shortened_text(_whole_result(content), LONGEST_RESULT)


def _whole_result(content: Content) -> str:
    value: Any = content.get("content")
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list):
        texts = [_text_of(item) for item in cast("list[Any]", value)]
        if None not in texts:
            return "".join(text for text in texts if text is not None)
    return _encode(value).decode()


def _text_of(item: Any) -> str | None:
    match item:
        case {"type": "text", "text": str(text)}:
            return text
        case _:
            return None


def encrypted_value(content: Content) -> str:
    """Return the provider's form of a thinking block, which only the provider reads, or ""."""
    return str(content.get("signature") or content.get("redacted") or "")


def call_facts(content: Content) -> dict[str, Any]:
    """Return the metadata of a call: clients keep it, and send it back."""
    return {"metadata": {"providerExecuted": True}} if content.get("provider_executed") else {}


def result_facts(content: Content) -> dict[str, Any]:
    """Return the metadata of a call's result."""
    facts = {
        name: True
        for name, key in (("providerExecuted", "provider_executed"), ("isError", "is_error"))
        if content.get(key)
    }
    return {"metadata": facts} if facts else {}


class RunMessages(NamedTuple):
    """The messages of a run, and the state that its next events depend on.

    Attributes:
        parent_id: Id of the assistant message that the next call belongs to, or None.
        calls: Ids of the calls without a result.
    """

    messages: list[ChatMessage]
    parent_id: str | None
    calls: tuple[str, ...]

    @property
    def has_reasoning(self) -> bool:
        """True if one of the messages is reasoning."""
        return any(message["role"] == "reasoning" for message in self.messages)


def messages_of(ids: RunIds, blocks: Sequence[Block]) -> RunMessages:
    """Return the messages of a run whose blocks so far are `blocks`."""
    messages: list[ChatMessage] = []
    parent: ChatMessage | None = None
    calls: dict[str, None] = {}
    for block in blocks:
        content, message_id = block.content or {}, ids.message(block.sequence)
        match block.block_type:
            case "text":
                parent = {"id": message_id, "role": "assistant", "content": block.text_content or ""}
                messages.append(parent)
            case "thinking":
                parent = None
                sealed = encrypted_value(content)
                kept = {"encryptedValue": sealed} if sealed else {}
                text = block.text_content or ""
                messages.append({"id": message_id, "role": "reasoning", "content": text, **kept})
            case "tool_use":
                if parent is None:
                    parent = {"id": message_id, "role": "assistant"}
                    messages.append(parent)
                parent.setdefault("toolCalls", []).append(_call(ids, block, content))
                calls[ids.call(block.sequence, content)] = None
            case "tool_result":
                parent = None
                _insert_result(ids, messages, block.sequence, content)
                calls.pop(ids.call(block.sequence, content), None)
            case _:
                pass
    return RunMessages(messages, None if parent is None else parent["id"], tuple(calls))


def is_reordered(known: Sequence[str], messages: Sequence[ChatMessage]) -> bool:
    """Return True if a client that has the messages `known` would show a snapshot in another order.

    A client keeps the places of the messages that it has, and adds other messages after them.
    """
    wanted = [message["id"] for message in messages]
    kept = [message_id for message_id in known if message_id in wanted]
    return [*kept, *(message_id for message_id in wanted if message_id not in kept)] != wanted


def _call(ids: RunIds, block: Block, content: Content) -> Content:
    function = {"name": tool_name(content), "arguments": str(content.get("input_json") or "")}
    call_id = ids.call(block.sequence, content)
    return {"id": call_id, "type": "function", "function": function, **call_facts(content)}


def _insert_result(ids: RunIds, messages: list[ChatMessage], index: int, content: Content) -> None:
    """Insert a result behind its call's message and the results that are there, as clients do."""
    call_id = ids.call(index, content)
    owner = next(
        (
            place
            for place, message in enumerate(messages)
            if any(call["id"] == call_id for call in message.get("toolCalls", ()))
        ),
        len(messages) - 1,
    )
    place = owner + 1
    while place < len(messages) and messages[place]["role"] == "tool":
        place += 1
    result = {"toolCallId": call_id, "content": result_text(content), **result_facts(content)}
    messages.insert(place, {"id": ids.message(index), "role": "tool", **result})


class CollectedBlocks:
    """Folds the events of a catch-up."""

    def __init__(self) -> None:
        self.blocks: dict[int, Block] = {}
        self.open: OpenBlock | None = None

    @property
    def shown(self) -> list[Block]:
        """All blocks, the open one as it is now.

        An open result is left out: clients get only complete results.
        """
        found = [*self.blocks.values()]
        if self.open is None or self.open.block_type == "tool_result":
            return found
        return [*found, self.open.finish(partial=True)]

    def add(self, event: TurnEvent) -> None:
        match event:
            case TurnStart():
                self.blocks, self.open = {}, None
            case BlockStart():
                self.open = OpenBlock(event.block_index, 0, event.block_type, event.content)
            case BlockDelta() if self.open is not None:
                self._grow(self.open, event)
            case BlockCatchup():
                self._catch_up(event)
            case BlockStop() if self.open is not None:
                self._close(self.open, partial=event.partial)
            case BlockReset(block_index=index) | Notice(code="truncated", block_index=int(index)):
                self.blocks = {at: block for at, block in self.blocks.items() if at < index}
                if self.open is not None and self.open.sequence >= index:
                    self.open = None
            case _:
                pass

    @staticmethod
    def _grow(block: OpenBlock, event: BlockDelta) -> None:
        if event.field == "content":
            block.merge(event.value)
        elif event.field == "signature":
            block.sign(event.value)
        else:
            block.append(event.value)

    def _catch_up(self, event: BlockCatchup) -> None:
        block = self.open
        if block is None or block.sequence != event.block_index:
            block = self.open = open_block_of(event)
        else:  # the rest of the block's text, and all of its content
            block.replace_content(event.content or {})
            block.append(event.input_partial or event.accumulated_text or "")
        if event.complete:
            self._close(block, partial=event.partial)

    def _close(self, block: OpenBlock, *, partial: bool) -> None:
        self.blocks[block.sequence] = block.finish(partial=partial)
        self.open = None


LARGEST_SNAPSHOT = 4 * 1024 * 1024
"""Bytes of a run's messages in a snapshot, and of the messages before them. Clients read frames of 10 MiB."""
_SHORTENED = (256 * 1024, 16 * 1024, 1024, 128)
"""Limits in characters, tried in this order until messages are small enough. Longer values are left out."""
_KEPT_NAMES = frozenset({"id", "role", "toolCallId", "type", "name"})


def encoded_messages(messages: Sequence[Mapping[str, Any]], *, may_shorten: bool) -> bytes | None:
    """Return messages as the items of a JSON array, or None if they are too large.

    Args:
        may_shorten: True to leave out the largest values if the messages are too large.
    """
    encoded = _items(messages)
    limits = iter(_SHORTENED if may_shorten else ())
    while len(encoded) > LARGEST_SNAPSHOT:
        if (limit := next(limits, None)) is None:
            return None
        messages = [_shortened(message, limit) for message in messages]
        encoded = _items(messages)
    return encoded


def _items(messages: Sequence[Mapping[str, Any]]) -> bytes:
    return b",".join(map(_encode, messages))


def _shortened(value: Any, limit: int) -> Any:
    """Return a part of a message without texts of more than `limit` characters."""
    if isinstance(value, dict):
        given = cast("dict[str, Any]", value)
        source = given.get("source")
        if isinstance(source, dict) and len(str(cast("dict[str, Any]", source).get("value", ""))) > limit:
            return {"type": "text", "text": f"[{given.get('type', 'file')} left out]"}
        return {
            name: one if name in _KEPT_NAMES else _shortened(one, limit)
            for name, one in given.items()
            if not (name == "encryptedValue" and len(str(one)) > limit)
        }
    if isinstance(value, list):
        return [_shortened(one, limit) for one in cast("list[Any]", value)]
    return shortened_text(value, limit) if isinstance(value, str) else value


def shortened_text(text: str, limit: int) -> str:
    """Return the text, or a note in its place if it has more than `limit` characters."""
    return text if len(text) <= limit else f"[{len(text):,} characters left out]"


def shortened_results(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Return messages without large results of calls."""
    return [
        _shortened(message, _SHORTENED[-2]) if message["role"] == "tool" else message for message in messages
    ]
