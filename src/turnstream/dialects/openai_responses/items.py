"""The items of stored turns, with ids that do not change, and the blocks that they show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from turnstream.core.blocks import Block, Message
from turnstream.dialects.openai_responses.encoder import client_tools_of, show_blocks
from turnstream.dialects.openai_responses.ids import item_id, response_id
from turnstream.dialects.provider_shaped.origin_seal import OriginSeal
from turnstream.store.base import TurnRecord
from turnstream.wires.openai_responses.encoder import OpenAIResponsesEncoder
from turnstream.wires.openai_responses.messages import dump_input
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object

_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


class StoredItem(NamedTuple):
    """An item, and the blocks of the turn `turn_id` that it shows."""

    raw: JsonObject
    turn_id: str
    sequences: tuple[int, ...]

    @property
    def identity(self) -> str:
        """Id of the item."""
        return str(self.raw.get("id"))


def items_of(turn: TurnRecord, blocks: Sequence[Block], seal: OriginSeal | None = None) -> list[StoredItem]:
    """Return the items of a turn, in order. `seal`: see `ResponsesEncoder`."""
    return _said(turn, blocks) if turn.role == "user" else _answered(turn, blocks, seal)


def items_of_path(
    path: Iterable[tuple[TurnRecord, tuple[Block, ...]]], seal: OriginSeal | None = None
) -> list[StoredItem]:
    """Return the items of consecutive turns, in order. `seal`: see `ResponsesEncoder`."""
    return [item for turn, blocks in path for item in items_of(turn, blocks, seal)]


def _said(turn: TurnRecord, blocks: Sequence[Block]) -> list[StoredItem]:
    """Return the items of the user's turn: one for each result, and messages for the other blocks."""
    items: list[StoredItem] = []
    parts: list[Block] = []

    def flush() -> None:
        if parts:
            items.extend(_dumped(turn, parts))
            parts.clear()

    for block in blocks:
        if block.block_type == "tool_result":
            flush()
            items.extend(_dumped(turn, [block]))
        else:
            parts.append(block)
    flush()
    return items


def _dumped(turn: TurnRecord, blocks: Sequence[Block]) -> list[StoredItem]:
    sequences = tuple(block.sequence for block in blocks)
    dumped = dump_input([Message("user", tuple(blocks))], keeps=True)
    return [StoredItem(_whole(turn, item, sequences[0]), turn.id, sequences) for item in dumped]


def _whole(turn: TurnRecord, item: JsonObject, number: int) -> JsonObject:
    kind = item.get("type", "message")
    whole: JsonObject = {
        "id": item_id(_PREFIXES.get(kind, "item"), turn.id, number),
        "type": kind,
        "status": "completed",
        **item,
    }
    content = item.get("content")
    if isinstance(content, str):
        whole["content"] = [{"type": "input_text", "text": content}]
    elif is_list(content):
        whole["content"] = [_detailed(part) for part in content]
    return whole


def _detailed(part: Any) -> Any:
    is_image = is_object(part) and part.get("type") == "input_image"
    return {"detail": "auto", **part} if is_image else part


def _answered(turn: TurnRecord, blocks: Sequence[Block], seal: OriginSeal | None) -> list[StoredItem]:
    encoder = OpenAIResponsesEncoder(model="", message_id=response_id(turn.id))
    tools = client_tools_of(turn) if not turn.imported else _called(blocks)
    show_blocks(encoder, blocks, tools, seal)
    output = encoder.finish()["output"]
    return [
        StoredItem(item, turn.id, sequences)
        for item, sequences in zip(output, encoder.item_blocks, strict=True)
    ]


def _called(blocks: Sequence[Block]) -> frozenset[str]:
    """Return the names of tools whose calls have no result in the same turn: the client ran them."""
    answered = {_call_id(block) for block in blocks if block.block_type == "tool_result"}
    return frozenset(
        str((block.content or {}).get("tool_name"))
        for block in blocks
        if block.block_type == "tool_use" and _call_id(block) not in answered
    )


def _call_id(block: Block) -> object:
    return (block.content or {}).get("tool_use_id")
