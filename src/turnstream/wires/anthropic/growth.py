"""Typed decoding of the deltas that an Anthropic block's text grows by: almost every event is one of them.

A block grows by one kind of delta. So its decoder is chosen once, when the block begins, and an event costs one typed decode
and one comparison. The decoder refuses every other event; plain JSON reads those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import msgspec

from turnstream.core.stream_events import TextDelta, ThinkingDelta, ToolInputDelta


class TextPiece(msgspec.Struct, tag_field="type", tag="text_delta", gc=False):
    text: str


class ThinkingPiece(msgspec.Struct, tag_field="type", tag="thinking_delta", gc=False):
    text: str = msgspec.field(name="thinking")


class ArgumentsPiece(msgspec.Struct, tag_field="type", tag="input_json_delta", gc=False):
    text: str = msgspec.field(name="partial_json")


Piece = TypeVar("Piece", TextPiece, ThinkingPiece, ArgumentsPiece)


class PieceEvent(msgspec.Struct, Generic[Piece], tag_field="type", tag="content_block_delta", gc=False):
    """An event of the provider that holds one piece of the text at `index`."""

    index: int
    delta: Piece


class Growth(NamedTuple):
    """A way to grow.

    decode: bytes of one event → its typed form; raises ValueError for every event of another kind.
    delta: makes the StreamEvent of an index and a text.
    """

    decode: Callable[[bytes], PieceEvent[TextPiece] | PieceEvent[ThinkingPiece] | PieceEvent[ArgumentsPiece]]
    delta: Callable[[int, str], TextDelta | ThinkingDelta | ToolInputDelta]


GROWTHS = {
    "text_delta": Growth(msgspec.json.Decoder(PieceEvent[TextPiece]).decode, TextDelta),
    "thinking_delta": Growth(msgspec.json.Decoder(PieceEvent[ThinkingPiece]).decode, ThinkingDelta),
    "input_json_delta": Growth(msgspec.json.Decoder(PieceEvent[ArgumentsPiece]).decode, ToolInputDelta),
}
"""The ways to grow by the kind of delta."""
