"""Turns as JSON in parts, encoded in threads: portions of lists and branches, and single turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing

import msgspec
from pydantic import BaseModel

from turnstream.server.attachments.content import without_data
from turnstream.server.views import BlockView, TurnView
from turnstream.store.base import BlockRecord
from turnstream.store.portions import Bounds, Portion, TurnPiece
from turnstream.turns.chats import ChatCommands, TurnPage

PART = 128 * 1024
"""Bytes of a single turn's JSON that are encoded at a time. A block is never split."""
_EMPTY_END = "]}"
"""End of a view whose last field is an empty list of blocks."""


async def page_json(
    chats: ChatCommands,
    page: TurnPage,
    bounds: Bounds,
    chat_id: str | None = None,
    *,
    with_media: bool = True,
) -> AsyncGenerator[bytes, None]:
    """Yield a page of turns as JSON.

    Args:
        chat_id: The chat of a branch, whose turns list their siblings. None: the page is not a branch.
        with_media: False to leave out the data of images and documents.
    """
    siblings = page.tree.siblings if chat_id is not None else None
    events = await chats.shown_events(page) if chat_id is not None else {}
    yield b"{" if chat_id is None else b'{"chat_id":%b,' % msgspec.json.encode(chat_id)
    yield b'"turns":['

    def made(portion: Portion) -> bytes:
        return portion_json(portion, page.turn_ids, siblings, events, with_media=with_media)

    async with aclosing(chats.portions(page, bounds, made)) as portions:
        async for part in portions:
            yield part
    yield b'],"previous":%b}' % msgspec.json.encode(page.previous)


def portion_json(
    portion: Portion,
    turn_ids: Sequence[str],
    siblings: Callable[[str], list[str]] | None,
    events: Mapping[str, Sequence[bytes]],
    *,
    with_media: bool = True,
) -> bytes:
    """Return the JSON of a portion. It continues the JSON of the previous portion.

    Args:
        siblings: Returns the ids of a turn's alternatives, in a branch. None: the portion is not of a branch.
        events: The sources and notices of a branch, by turn, as native JSON.
    """
    parts: list[str] = []
    for piece in portion.pieces:
        parts.extend(_beginning_of(piece))
        rows = piece.blocks if with_media else map(without_data, piece.blocks)
        parts.append(",".join(map(_block_json, rows)))
        if piece.ends:
            parts.append("]")
            if siblings is not None:
                alternatives = siblings(turn_ids[piece.number])
                parts.append(f',"siblings":{msgspec.json.encode(alternatives).decode()}')
                of_turn = events.get(turn_ids[piece.number], ())
                parts.append(f',"events":[{b",".join(of_turn).decode()}]')
            parts.append("}")
    return "".join(parts).encode()


async def single_json(
    view: Callable[[], BaseModel], blocks: Sequence[BlockRecord]
) -> AsyncGenerator[bytes, None]:
    """Yield the JSON of a view with `blocks`. The view's last field must be an empty list of blocks."""
    rows = iter(blocks)
    part = await asyncio.to_thread(_first_part, view, rows)
    while part:
        yield part
        part = await asyncio.to_thread(_next_part, rows)
    yield _EMPTY_END.encode()


def _beginning_of(piece: TurnPiece) -> Iterable[str]:
    if piece.turn is None:
        return (",",) if piece.blocks else ()
    head = TurnView.of_turn(piece.turn).model_dump_json().removesuffix(_EMPTY_END)
    return (",", head) if piece.number else (head,)


def _first_part(view: Callable[[], BaseModel], rows: Iterator[BlockRecord]) -> bytes:
    head = view().model_dump_json().removesuffix(_EMPTY_END).encode()
    return head + _next_part(rows).removeprefix(b",")


def _next_part(rows: Iterator[BlockRecord]) -> bytes:
    """Return the JSON of the next blocks, up to `PART` bytes, each after a comma.

    Empty after the last block.
    """
    part = bytearray()
    for row in rows:
        part += b"," + _block_json(row).encode()
        if len(part) >= PART:
            break
    return bytes(part)


def _block_json(row: BlockRecord) -> str:
    return BlockView.of(row).model_dump_json()
