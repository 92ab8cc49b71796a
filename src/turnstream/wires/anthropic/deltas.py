"""Decides which delta belongs to which block of an Anthropic stream. Gateways send some that belong to none.

The rule is that of Anthropic's own client: a delta belongs to the block at its index if that block type grows
by deltas of this kind. Otherwise it is ignored. Only the block type counts, not whether the block has
stopped. So a stop takes effect with the next event that is not a delta of the same block. Deltas that come
later are dropped, except text, which begins a new block. A dropped delta with content leaves a notice.

A block grows by one kind of delta, and almost every event is such a delta. So the typed decoder is chosen
once, when the block begins, and an event costs one typed decode and one comparison. The decoder rejects every
other event, which is then decoded as plain JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from turnstream.core.blocks import BlockType
from turnstream.core.stream_events import (
    ContentBlockStop,
    StreamEvent,
    StreamNotice,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)


class TextPiece(msgspec.Struct, tag_field="type", tag="text_delta", gc=False):
    text: str


class ThinkingPiece(msgspec.Struct, tag_field="type", tag="thinking_delta", gc=False):
    text: str = msgspec.field(name="thinking")


class ArgumentsPiece(msgspec.Struct, tag_field="type", tag="input_json_delta", gc=False):
    text: str = msgspec.field(name="partial_json")


Piece = TypeVar("Piece", TextPiece, ThinkingPiece, ArgumentsPiece)


class PieceEvent(msgspec.Struct, Generic[Piece], tag_field="type", tag="content_block_delta", gc=False):
    """An event of the provider that adds one piece of text to the block at `index`."""

    index: int
    delta: Piece


class Growth(NamedTuple):
    """The decoder and the event type for one kind of delta.

    Args:
        decode: Decodes the bytes of one event. Raises ValueError for an event of another kind.
        delta: Makes the StreamEvent from an index and a text.
    """

    decode: Callable[[bytes], PieceEvent[TextPiece] | PieceEvent[ThinkingPiece] | PieceEvent[ArgumentsPiece]]
    delta: Callable[[int, str], TextDelta | ThinkingDelta | ToolInputDelta]


GROWTHS = {
    "text_delta": Growth(msgspec.json.Decoder(PieceEvent[TextPiece]).decode, TextDelta),
    "thinking_delta": Growth(msgspec.json.Decoder(PieceEvent[ThinkingPiece]).decode, ThinkingDelta),
    "input_json_delta": Growth(msgspec.json.Decoder(PieceEvent[ArgumentsPiece]).decode, ToolInputDelta),
}
"""Growths by kind of delta."""

_TEXTS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
    "signature_delta": "signature",
}
"""The name of the text field, by kind of delta."""
_OWN: dict[BlockType, frozenset[str]] = {
    "text": frozenset({"text_delta", "citations_delta"}),
    "thinking": frozenset({"thinking_delta", "signature_delta"}),
    "tool_use": frozenset({"input_json_delta"}),
}
_MISPLACED = frozenset({"text_delta", "citations_delta", "thinking_delta", "input_json_delta"})
"""Kinds of deltas that a block of another type rejects.

A signature is harmless there, because it does not change the block's content.
"""
_GROWS_BY: dict[BlockType, str] = {
    "text": "text_delta",
    "thinking": "thinking_delta",
    "tool_use": "input_json_delta",
}
_NO_INDEX = -1
NOTHING_GROWS = (_NO_INDEX, GROWTHS["text_delta"])


class _Place(NamedTuple):
    block_type: BlockType
    stop_waits: bool


class BlockPlaces:
    """The blocks of one message by index.

    `growing` holds the index of the block that began last, while it is open, and its Growth.
    """

    def __init__(self) -> None:
        self.growing: tuple[int, Growth] = NOTHING_GROWS
        self._open: dict[int, _Place] = {}
        self._ended: dict[int, BlockType] = {}
        self._stopping: int | None = None

    @property
    def has_open(self) -> bool:
        """True while a block has a start and no stop."""
        return len(self._open) > (self._stopping in self._open)

    def start(self, index: int, block_type: BlockType, *, stop_waits: bool) -> None:
        """Register the start of a block.

        Args:
            index: Index of the block.
            block_type: Type of the block.
            stop_waits: False for a block that is shown as complete as soon as it stops.
        """
        self._ended.pop(index, None)
        self._open[index] = _Place(block_type, stop_waits and block_type in _OWN)
        grows_by = _GROWS_BY.get(block_type)
        self.growing = (index, GROWTHS[grows_by]) if grows_by is not None else NOTHING_GROWS

    def end(self) -> None:
        """Accept no more text: the message has ended."""
        self.growing = NOTHING_GROWS

    def forget(self, index: int) -> None:
        """Remove the block at `index`."""
        self._open.pop(index, None)
        self.growing = NOTHING_GROWS

    def stop(self, index: int, events: list[StreamEvent]) -> None:
        """Stop a block, now or at the next event that is not one of its deltas."""
        self.growing = NOTHING_GROWS
        place = self._open.get(index)
        self._stopping = index
        if place is None or not place.stop_waits:
            self.flush(events)

    def flush(self, events: list[StreamEvent]) -> None:
        """Add the stop that is held, if there is one."""
        index, self._stopping = self._stopping, None
        if index is not None:
            if (place := self._open.pop(index, None)) is not None:
                self._ended[index] = place.block_type
            events.append(ContentBlockStop(index))

    def admits(self, index: int, delta: dict[str, Any], events: list[StreamEvent]) -> bool:
        """Return True if a delta belongs to the block at its index.

        Args:
            index: Index of the block.
            delta: Field `delta` of the provider's event.
            events: Receives a held stop that must precede the delta, and a notice if a delta with content is
                dropped.
        """
        if index != self._stopping:
            self.flush(events)
        kind = str(delta.get("type"))
        text = delta.get(_TEXTS.get(kind, ""))
        place, ended = self._open.get(index), self._ended.get(index)
        if place is not None:
            own = _OWN.get(place.block_type)
            fits = own is None or kind in own or kind not in _MISPLACED
            if fits and index != self._stopping and kind == _GROWS_BY.get(place.block_type):
                self.growing = (index, GROWTHS[kind])
        else:
            fits = ended not in _OWN or (kind == "text_delta" and ended == "text" and bool(text))
            if ended is None and kind in GROWTHS:
                self.growing = (index, GROWTHS[kind])  # its block has no start
        if not fits and (kind not in _TEXTS or (isinstance(text, str) and text.strip())):
            where = place.block_type if place is not None else f"{ended} that has ended"
            words = f"the provider sends a {kind} for a block of {where}: it is left out"
            events.append(StreamNotice("misplaced_delta", words))
        return fits
