"""The open block in pieces, for watchers that catch up with it."""

from __future__ import annotations

from typing import TypeAlias

from msgspec.structs import replace

from turnstream.core.blocks import Block, Content
from turnstream.core.content_parts import content_parts
from turnstream.core.open_block import OpenBlock, catchup_of
from turnstream.core.turn_events import BlockDelta, TurnEvent
from turnstream.turnlog.base import FrameEncoder
from turnstream.turnlog.position import ALL, NOTHING, Batch, WatchPosition
from turnstream.turnlog.shared_frames import LARGE_FRAME, shared_frames

SHORT_SIGNATURE = 16 * 1024
"""Characters of a signature that is sent with the block's content. A longer one is sent in pieces."""

Place: TypeAlias = "tuple[int, int, int]"
"""A watcher's part of the open block: characters of text and of signature, number of content parts."""


class OpenPieces:
    """Makes the pieces of one turn's open block."""

    __slots__ = ("_encoder", "_length", "_parts", "_turn_id", "_version")

    def __init__(self, turn_id: str, encoder: FrameEncoder, length: int) -> None:
        """Set the encoder, and `length`, the characters of text that a piece has at most."""
        self._turn_id = turn_id
        self._encoder = encoder
        self._length = length
        self._version = -1
        self._parts: list[Content] = []
        """The parts of a large content as of event `_version`."""

    def piece(self, block: OpenBlock, version: int, position: WatchPosition, end: int) -> Batch:
        """Return the piece of `block` that follows `position`.

        The id of a piece that does not reach the end is the position's own.

        Args:
            version: The event that last changed the block's content.
            end: The id of a piece that reaches the end.
        """
        has_part = position.block_index != NOTHING
        place = (position.length, position.signature, position.contents) if has_part else None
        event, (text, signature, contents) = self._next(block, version, place)
        is_whole = text == block.length and signature == block.signature_length and contents == ALL
        seq, held = end if is_whole else position.seq, None
        frame = self._encoder.frame(seq, event)
        if len(frame) > LARGE_FRAME:
            # One value is large. With the watcher's cursor as the id, all watchers that join now share it.
            seq = position.seq
            key = (self._turn_id, block.sequence, version, seq, place, text)
            held = shared_frames.shared(key, self._encoder.frame(seq, event))
            frame = held.data
        generation, index = position.generation, block.sequence
        if is_whole and seq == end:
            after = WatchPosition(generation, seq, index, text, signature, contents, end, next_block=index)
        else:
            after = replace(
                position,
                block_index=index,
                length=text,
                signature=signature,
                contents=contents,
                block_seq=end,
                is_behind=True,
            )
        return Batch(frame, after, held=held)

    def _next(self, block: OpenBlock, version: int, place: Place | None) -> tuple[TurnEvent, Place]:
        if place is None:
            return self._first(block, version)
        text, signature, contents = place
        if contents != ALL:
            parts = self._contents(block, version)
            delta = BlockDelta(block.sequence, block.block_type, "content", parts[contents])
            contents += 1
            return delta, (text, signature, contents if contents < len(parts) else ALL)
        if text < block.length:
            piece = block.text()[text : text + self._length]
            delta = BlockDelta(block.sequence, block.block_type, block.field, piece)
            return delta, (text + len(piece), signature, ALL)
        piece = block.signature[signature : signature + self._length]
        delta = BlockDelta(block.sequence, block.block_type, "signature", piece)
        return delta, (text, signature + len(piece), ALL)

    def _first(self, block: OpenBlock, version: int) -> tuple[TurnEvent, Place]:
        """Return the first event: a small content with the first text, or one part of a large content."""
        parts = self._contents(block, version)
        content = dict(parts[0]) if parts else {}
        signature = block.signature if block.signature_length <= SHORT_SIGNATURE else ""
        if signature:
            content["signature"] = signature
        text = block.text()[: self._length] if len(parts) <= 1 else ""
        first = Block(block.sequence, block.block_type, text, content or None)
        contents = ALL if len(parts) <= 1 else 1
        return catchup_of(first, complete=False), (len(text), len(signature), contents)

    def _contents(self, block: OpenBlock, version: int) -> list[Content]:
        """Return the parts of the block's content. The parts of a large content are cached."""
        if version == self._version:
            return self._parts
        parts = content_parts(block.content_now())
        if len(parts) > 1:
            self._version, self._parts = version, parts
        return parts
