"""Catch-up of a watcher with closed blocks and durable events: in pages, and large blocks in pieces.

A large block is sent as an open block is: a `block_catchup` that is not complete, then `block_delta`s, then a
`block_stop`. Every piece except the last repeats the previous id, because an id never passes an event that
has not been sent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from turnstream.core.blocks import Block, BlockType, Content
from turnstream.core.content_parts import content_parts
from turnstream.core.open_block import OpenBlock, catchup_of
from turnstream.core.turn_events import BlockDelta, BlockStop, DeltaField, TurnEvent
from turnstream.store.base import Annotation, BlockRecord
from turnstream.turnlog.base import FrameEncoder
from turnstream.turnlog.shared_frames import LARGE_FRAME, SharedFrame, shared_frames

logger = logging.getLogger(__name__)

PAGE_BYTES = 32 * 1024
"""Bytes of frames after which a page ends. Only the last frame may exceed it."""
PAGE_FRAMES = 256
"""Frames that a page holds at most."""
PIECE_LENGTH = 16 * 1024
"""Characters of text in one piece of a block."""
LONG_TEXT = 32 * 1024
"""Characters of text, or of a signature, above which a block is sent in pieces."""
TEXT_PIECE = 64 * PIECE_LENGTH
"""Characters of a long text that are read at a time, and kept for other watchers."""

_decode_event = msgspec.json.Decoder(TurnEvent).decode
_PARSED_INPUT = frozenset({"input", "input_json", "input_error"})


class BlockPosition(NamedTuple):
    """The part of a block that a watcher has.

    Attributes:
        contents: Number of parts of its content.
        text: Characters of its text.
        signature: Characters of its signature.
    """

    contents: int
    text: int
    signature: int


BEGINNING = BlockPosition(0, 0, 0)


class Parts(NamedTuple):
    """The parts of a block: its content in parts, its text, its signature."""

    contents: list[Content]
    text: str
    signature: str

    @property
    def place(self) -> BlockPosition:
        """Position of a watcher that has all parts."""
        return BlockPosition(len(self.contents), len(self.text), len(self.signature))


class LargeBlock(NamedTuple):
    """A closed block that is sent in pieces. It holds none of the block's content.

    Attributes:
        whole: The position of a watcher that has the whole block.
        last_seq: The id of the block's last piece.
    """

    row_id: str
    block_index: int
    block_type: BlockType
    partial: bool
    last_seq: int
    whole: BlockPosition


Item: TypeAlias = BlockRecord | LargeBlock | Annotation


class ArchivePage(NamedTuple):
    """The rows that follow a watcher's cursor in the archive.

    Attributes:
        data: Whole frames.
        seq: The cursor after the frames.
        next_block: The index of the first block that was not sent.
        large: The block that is sent next, in pieces, or None.
        held: The frame in `data` if watchers share it, else None.
    """

    data: bytes
    seq: int
    next_block: int
    large: LargeBlock | None = None
    held: SharedFrame | None = None


class Archive(Protocol):
    """Reads the events of a turn that have left the log: closed blocks and durable events."""

    async def page_after(self, seq: int, *, next_block: int, horizon: int) -> ArchivePage:
        """Return the next rows of the turn. Raises StoreError if the store cannot be read.

        Args:
            seq: The watcher's cursor. Rows that end after it are returned.
            next_block: The first block that the watcher needs. Earlier blocks are left out.
            horizon: The last event that may be returned.
        """
        ...

    async def parts_of(self, block: LargeBlock, place: BlockPosition) -> Parts | None:
        """Return the parts that the piece at `place` is made of, or None if the block is deleted.

        Of the text, only the stretch that contains `place` may be returned: TEXT_PIECE characters from a
        multiple of TEXT_PIECE on. Raises StoreError if the store cannot be read.
        """
        ...

    async def count_until(self, seq: int) -> int:
        """Return the number of blocks that end at or before `seq`.

        Raises StoreError if the store cannot be read.
        """
        ...


def build_page(
    items: Iterable[Item], start: ArchivePage, horizon: int, encoder: FrameEncoder
) -> tuple[ArchivePage, Parts | None]:
    """Return the page after `start`, and the parts of the large block after it. None: no part was read.

    Args:
        items: Closed blocks and durable events after the cursor, in order. Only the items that the page needs
            are consumed.
        start: The watcher's cursor and next block, as a page without frames.
        horizon: The last event that may be sent. The page's `seq` is `horizon` if all events up to it are
            sent.
    """
    frames: list[bytes] = []
    size, seq, next_block = 0, start.seq, start.next_block
    for item in items:
        at = seq_of(item)
        if at > horizon:
            break
        frame, large, parts = _framed(item, encoder)
        is_large = large is not None or len(frame) > LARGE_FRAME
        if frames and (is_large or size >= PAGE_BYTES or len(frames) >= PAGE_FRAMES):
            return ArchivePage(b"".join(frames), seq, next_block), None
        if large is not None:
            return ArchivePage(b"", seq, next_block, large), parts
        seq = at
        if isinstance(item, BlockRecord):
            next_block = item.block.sequence + 1
        if is_large and not isinstance(item, LargeBlock):
            held = shared_frames.shared(_key_of(item), frame)
            return ArchivePage(held.data, seq, next_block, None, held), None
        frames.append(frame)
        size += len(frame)
    return ArchivePage(b"".join(frames), max(horizon, seq), next_block), None


def seq_of(item: Item) -> int:
    """Return the id of the event that ends a row."""
    return item.seq if isinstance(item, Annotation) else item.last_seq


def _key_of(item: BlockRecord | Annotation) -> tuple[str, int]:
    return (item.turn_id, item.seq) if isinstance(item, Annotation) else (item.id, 0)


def _framed(item: Item, encoder: FrameEncoder) -> tuple[bytes, LargeBlock | None, Parts | None]:
    """Return a row's frame, or the large block to send in pieces, with its parts if they are in memory.

    The frame is empty if an event cannot be decoded. The rest of the turn is still sent.
    """
    if isinstance(item, LargeBlock):
        return b"", item, None
    if isinstance(item, Annotation):
        try:
            return encoder.frame(item.seq, _decode_event(item.event)), None, None
        except (msgspec.DecodeError, RecursionError) as error:
            logger.error(
                "turn %s: event %d cannot be read and is left out: %s", item.turn_id, item.seq, error
            )
            return b"", None, None
    if not has_long_text(item.block):
        frame = encoder.frame(item.last_seq, catchup_of(item.block))
        if len(frame) <= LARGE_FRAME:
            return frame, None, None
    if (found := large_block(item)) is not None:
        return b"", *found
    return encoder.frame(item.last_seq, catchup_of(item.block)), None, None


def has_long_text(block: Block) -> bool:
    """Return True if the block's text is too long for one piece."""
    text = (block.content or {}).get("input_json") if block.block_type == "tool_use" else block.text_content
    return isinstance(text, str) and len(text) > LONG_TEXT


def large_block(row: BlockRecord) -> tuple[LargeBlock, Parts] | None:
    """Return the block as a LargeBlock with its parts, or None if pieces would not be smaller."""
    block = row.block
    parts = take_apart(block)
    if not _folds_to(parts, block):
        return None
    if len(parts.text) <= LONG_TEXT and len(parts.signature) <= LONG_TEXT and len(parts.contents) <= 1:
        return None
    large = LargeBlock(row.id, block.sequence, block.block_type, block.partial, row.last_seq, parts.place)
    return large, parts


def take_apart(block: Block) -> Parts:
    """Return the block's parts. A short signature stays in the content."""
    content = dict(block.content or {})
    text = block.text_content or ""
    if block.block_type == "tool_use":
        given = content.get("input_json")
        text = given if isinstance(given, str) else ""
        content = {key: value for key, value in content.items() if not text or key not in _PARSED_INPUT}
    signature = content.get("signature")
    if not isinstance(signature, str) or len(signature) <= LONG_TEXT:
        return Parts(content_parts(content), text, "")
    del content["signature"]
    return Parts(content_parts(content), text, signature)


def _folds_to(parts: Parts, block: Block) -> bool:
    """Return True if a client that folds the parts gets exactly `block`."""
    folded = OpenBlock(block.sequence, 0, block.block_type, None)
    for content in parts.contents:
        folded.merge({key: [*value] if isinstance(value, list) else value for key, value in content.items()})
    folded.append(parts.text)
    if parts.signature:
        folded.sign(parts.signature)
    return folded.finish(partial=block.partial) == block


def next_piece(
    block: LargeBlock, place: BlockPosition | None, parts: Parts
) -> tuple[TurnEvent, BlockPosition]:
    """Return the event after `place`, and the position after that event.

    Args:
        place: The watcher's position in the block. None is the beginning, `block.whole` the end.
    """
    index, block_type = block.block_index, block.block_type
    if place is None:
        content = parts.contents[0] if parts.contents else None
        event = catchup_of(Block(index, block_type, "", content), complete=False)
        return event, BlockPosition(min(1, len(parts.contents)), 0, 0)
    contents, text, signature = place
    if contents < block.whole.contents:
        delta = BlockDelta(index, block_type, "content", parts.contents[contents])
        return delta, BlockPosition(contents + 1, text, signature)
    if text < block.whole.text:
        start = text % TEXT_PIECE
        piece = parts.text[start : start + PIECE_LENGTH]
        field: DeltaField = "partial_json" if block_type == "tool_use" else "text"
        return BlockDelta(index, block_type, field, piece), BlockPosition(
            contents, text + len(piece), signature
        )
    if signature < block.whole.signature:
        piece = parts.signature[signature : signature + PIECE_LENGTH]
        delta = BlockDelta(index, block_type, "signature", piece)
        return delta, BlockPosition(contents, text, signature + len(piece))
    return BlockStop(index, block_type, block.partial), place
