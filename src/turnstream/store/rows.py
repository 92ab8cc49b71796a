"""Between rows and the values that they hold."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Row

from turnstream.core.admission import mended, unreadable
from turnstream.core.blocks import BLOCK_TYPES, Block
from turnstream.core.usage import CallAttempt, StepUsage, Usage
from turnstream.store.base import Annotation, BlockRecord, ChatRecord, TurnRecord
from turnstream.store.columns import encode_json

logger = logging.getLogger(__name__)

TurnRow = tuple[str | int | None, ...]
BlockRow = tuple[str, int, str, str, str | None, str | None, int, int, int, int]
AttemptRow = tuple[str | int | float | None, ...]
Value = TypeVar("Value")

_LAST_MOMENT = 253_402_300_799_000_000
"""Microseconds to the end of the year 9999."""


def chat_from_row(row: Row[Any]) -> ChatRecord:
    return ChatRecord(
        row.id,
        row.owner,
        _text(row.title),
        _mapping(row.metadata, row.id, "metadata"),
        _moment(row.created_at) or 0,
        _moment(row.updated_at) or 0,
        _text(row.active_turn_id),
    )


def chat_values(chat: ChatRecord) -> dict[str, Any]:
    return {
        "id": chat.id,
        "owner": chat.owner,
        "title": chat.title,
        "metadata": chat.metadata,
        "created_at": chat.created_at,
        "updated_at": chat.updated_at,
        "active_turn_id": chat.active_turn_id,
    }


def turn_from_row(row: Row[Any], settings: tuple[str | None, Any] | None = None) -> TurnRecord:
    """Return the turn of a row. `settings`: its system prompt and params, where the row does not hold them."""
    system, params = (row.system, row.params) if settings is None else settings
    return TurnRecord(
        id=_text(row.id),
        chat_id=row.chat_id,
        owner=row.owner,
        prev_turn_id=_text(row.prev_turn_id),
        role=_text(row.role),
        status=_text(row.status),
        model=_text(row.model),
        created_at=_moment(row.created_at) or 0,
        generation=row.generation,
        system=_text(system),
        params=_mapping(params, row.id, "params"),
        metadata=_mapping(row.metadata, row.id, "metadata"),
        last_seq=row.last_seq,
        fences=pairs_of(row.fences, row.id, "fences"),
        stop_reason=_text(row.stop_reason),
        error_code=_text(row.error_code),
        error_message=_text(row.error_message),
        usage=_usage_of(row),
        started_at=_moment(row.started_at),
        completed_at=_moment(row.completed_at),
        cost=_text(row.cost),
        cost_estimated=row.cost_estimated,
        steps=_converted(row.steps, tuple[StepUsage, ...], row.id, "steps") or () if row.steps else (),
        asked_model=_text(row.asked_model),
        fallbacks=None
        if row.fallbacks is None
        else _converted(row.fallbacks, tuple[str, ...], row.id, "fallbacks"),
        resets=pairs_of(row.resets, row.id, "resets"),
    )


def turn_values(turn: TurnRecord) -> dict[str, Any]:
    return {
        "id": turn.id,
        "chat_id": turn.chat_id,
        "owner": turn.owner,
        "prev_turn_id": turn.prev_turn_id,
        "role": turn.role,
        "status": turn.status,
        "generation": turn.generation,
        "last_seq": turn.last_seq,
        "created_at": turn.created_at,
        "started_at": turn.started_at,
        "completed_at": turn.completed_at,
        "model": turn.model,
        "stop_reason": turn.stop_reason,
        "error_code": turn.error_code,
        "error_message": turn.error_message,
        "fences": turn.fences,
        "params": turn.params,
        "metadata": turn.metadata,
        "system": turn.system,
        **usage_values(turn.usage),
        **cost_values(turn.cost, turn.steps, estimated=turn.cost_estimated),
        "asked_model": turn.asked_model,
        "fallbacks": turn.fallbacks,
        "resets": turn.resets or None,
    }


def turn_row(turn: TurnRecord, settings: str | None = None) -> TurnRow:
    """Return the columns of `turns` in order, as the driver takes them. `settings`: the digest of a system prompt and params
    that are stored elsewhere."""
    return (
        turn.id,
        turn.chat_id,
        mended(turn.owner),
        turn.prev_turn_id,
        turn.role,
        turn.status,
        turn.generation,
        turn.last_seq,
        turn.created_at,
        turn.started_at,
        turn.completed_at,
        _storable(turn.model),
        _storable(turn.stop_reason),
        _storable(turn.error_code),
        _storable(turn.error_message),
        *usage_values(turn.usage).values(),
        encode_json(turn.fences),
        "{}" if settings is not None else encode_json(turn.params),
        encode_json(turn.metadata),
        None if settings is not None else _storable(turn.system),
        turn.cost,
        int(turn.cost_estimated),  # the driver binds an int at once, and looks for what a bool might be
        encode_json(turn.steps) if turn.steps else None,
        _storable(turn.asked_model),
        None if turn.fallbacks is None else encode_json(turn.fallbacks),
        encode_json(turn.resets) if turn.resets else None,
        settings,
    )


def _storable(text: str | None) -> str | None:
    return None if text is None else mended(text)


def usage_values(usage: Usage) -> dict[str, int | None]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }


def cost_values(cost: str | None, steps: Sequence[StepUsage], *, estimated: bool) -> dict[str, Any]:
    return {"cost": cost, "cost_estimated": estimated, "steps": tuple(steps) or None}


def attempt_row(turn_id: str, attempt: CallAttempt) -> AttemptRow:
    """The columns of `attempts` in order, as the driver takes them."""
    return (
        turn_id,
        attempt.step,
        attempt.number,
        mended(attempt.model),
        mended(attempt.outcome),
        attempt.started_at,
        attempt.duration,
        *usage_values(attempt.usage).values(),
        attempt.cost,
        int(attempt.estimated),
    )


def attempt_from_row(row: Row[Any]) -> CallAttempt:
    return CallAttempt(
        _whole(row.step) or 0,
        _whole(row.number) or 0,
        _text(row.model) or "",
        _text(row.outcome) or "",
        _moment(row.started_at) or 0,
        row.duration if row.duration.__class__ is float else 0.0,
        _usage_of(row),
        _text(row.cost),
        row.estimated,
    )


def _usage_of(row: Row[Any]) -> Usage:
    return Usage(
        _whole(row.input_tokens),
        _whole(row.output_tokens),
        _whole(row.cache_read_tokens),
        _whole(row.cache_write_tokens),
        _whole(row.reasoning_tokens),
    )


def block_from_row(row: Sequence[Any]) -> BlockRecord:
    """Of a row of `blocks`, its columns in the order of the table."""
    turn_id, sequence, block_id, block_type, text, content, partial, first_seq, last_seq, created_at = row
    if content is not None:
        content = _mapping(content, turn_id, f"the content of block {sequence}")
    if block_type not in BLOCK_TYPES:
        _unreadable(turn_id, f"the type of block {sequence}")
        block_type, content = "text", unreadable("the stored type of this block is not known")
    block = Block(_whole(sequence) or 0, block_type, _text(text), content, partial)
    return BlockRecord(block_id, turn_id, block, first_seq, last_seq, _moment(created_at) or 0)


def block_row(stored: BlockRecord) -> BlockRow:
    """The columns of `blocks` in order, as the driver takes them."""
    block = stored.block
    text, content = block.text_content, block.content
    return (
        stored.turn_id,
        block.sequence,
        stored.id,
        block.block_type,
        _storable(text),
        None if content is None else encode_json(content),
        int(block.partial),
        stored.first_seq,
        stored.last_seq,
        stored.created_at,
    )


def pairs_of(value: Any, row_id: str, column: str) -> tuple[tuple[int, int], ...]:
    """Return a column of pairs of numbers, empty if it cannot be read."""
    return _converted(value, tuple[tuple[int, int], ...], row_id, column) or () if value else ()


def _whole(value: Any) -> int | None:
    """Return a column of whole numbers, or None if it holds anything else: SQLite takes any value for any column."""
    return value if value.__class__ is int else None


def _moment(value: Any) -> int | None:
    """Return a column of microseconds, or None if it holds no time that can be shown."""
    return value if value.__class__ is int and 0 <= value <= _LAST_MOMENT else None


def _text(value: Any) -> Any:
    """Return a column of text, whatever it holds."""
    if value is None or value.__class__ is str:
        return value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _mapping(value: Any, row_id: str, column: str) -> dict[str, Any]:
    """Return a column that holds a JSON object, or one that says that it cannot be read."""
    if value.__class__ is dict:
        return value
    _unreadable(row_id, column)
    return unreadable("the stored value is damaged, or nests too deeply")


def _converted(value: Any, kind: type[Value], row_id: str, column: str) -> Value | None:
    """Return `value` as a `kind`, or None if it is not one."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return _unreadable(row_id, column)


def _unreadable(row_id: str, column: str) -> None:
    logger.error("row %s: %s cannot be read", row_id, column)


def annotation_from_row(row: Row[Any]) -> Annotation:
    return Annotation(row.turn_id, row.seq, row.event.encode())
