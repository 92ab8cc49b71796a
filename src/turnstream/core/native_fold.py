"""The client side of the native dialect: reads native events, and folds them into blocks (PROTOCOL.md).

After any cut, resume, catch-up or reset, the fold of the events that a watcher received equals the stored
blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from turnstream.core.blocks import Block
from turnstream.core.open_block import OpenBlock
from turnstream.core.sse import ServerSentEvent, SseDecoder
from turnstream.errors import MalformedEvent

FRAME_LIMIT = 64 * 1024 * 1024
"""Largest event, in bytes. A catch-up contains a whole block."""
TERMINAL_NAMES = frozenset({"turn_complete", "turn_error", "turn_cancelled"})
_MOST_PARTS = 4096
"""Pieces of text that an open block keeps. They are joined then, because each of them costs memory."""


_decode = msgspec.json.Decoder(dict[str, Any]).decode


def frame_decoder() -> SseDecoder:
    """Return the decoder for one connection.

    A decoder is not used for a second connection. So the incomplete event of a lost connection is discarded.
    """
    return SseDecoder(event_limit=FRAME_LIMIT)


class NativeEvent(NamedTuple):
    """An event of the protocol: its name and its data."""

    name: str
    data: dict[str, Any]


def native_event(frame: ServerSentEvent) -> NativeEvent:
    """Return the event of a frame. Raises MalformedEvent if the frame is not of the native dialect."""
    name, data, _ = frame
    try:
        return NativeEvent((name or b"message").decode(), _decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed_frame(name, error) from error


def malformed_frame(name: bytes | None, error: Exception) -> MalformedEvent:
    """Return the error of a frame that is not of the native dialect. `name`: the frame's event name."""
    shown = (name or b"message")[:80].decode("utf-8", "replace")
    return MalformedEvent(f"the server sent a {shown} event that is none: {error}", retryable=False)


class Ending(NamedTuple):
    """A turn's terminal event: its name and its data."""

    name: str
    data: Mapping[str, Any]


class NativeFold:
    """Folds the events of one turn.

    Pass every event to `feed`, with its `event:` name and its `data:` as a dict. Unknown events are ignored.
    """

    def __init__(self) -> None:
        self.turn_id: str | None = None
        self.ending: Ending | None = None
        self.approvals: dict[str, Mapping[str, Any]] = {}
        """Unanswered approval requests of the turn, by approval id, each as its event's data."""
        self._blocks: dict[int, Block | OpenBlock] = {}

    @property
    def blocks(self) -> list[Block]:
        """Blocks so far, in order. An open block is included as if it were cut off now."""
        return [
            entry if isinstance(entry, Block) else entry.finish(partial=True)
            for _, entry in sorted(self._blocks.items())
        ]

    def block(self, index: int) -> Block | None:
        """Return the block at `index`, an open one as in `blocks`. None if there is none."""
        entry = self._blocks.get(index)
        return entry.finish(partial=True) if isinstance(entry, OpenBlock) else entry

    def feed(self, name: str, data: Mapping[str, Any]) -> None:
        """Fold one event. Raises KeyError, TypeError or ValueError if `data` does not fit the event."""
        match name:
            case "block_delta":
                self._grow(data)
            case "block_start":
                index = data["block_index"]
                self._blocks[index] = _opened(index, data)
            case "block_stop":
                self._stop(data)
            case "block_catchup":
                self._blocks[data["block_index"]] = _caught_up(data)
            case "block_reset":
                self._drop_from(data["block_index"])
            case "notice" if data["code"] == "truncated":
                self._drop_from(data.get("block_index") or 0)
            case "approval_request":
                self.approvals[data["approval_id"]] = data
            case "approval_response":
                self.approvals.pop(data["approval_id"], None)
            case "turn_start":
                self.turn_id = data["turn_id"]
                self.ending = None
                self._blocks.clear()
                self.approvals.clear()
            case _ if name in TERMINAL_NAMES:
                self.ending = Ending(name, data)
                self.approvals.clear()
            case _:
                pass

    def _grow(self, data: Mapping[str, Any]) -> None:
        index = data["block_index"]
        block = self._blocks.get(index)
        if not isinstance(block, OpenBlock):
            block = self._blocks[index] = _opened(index, data)
        for field, value in data["delta"].items():
            if field == "signature":
                block.sign(value)
            elif field == "content":
                block.merge(value)
            else:
                block.append(value)
                if len(block.parts) > _MOST_PARTS:
                    block.text()

    def _stop(self, data: Mapping[str, Any]) -> None:
        index = data["block_index"]
        block = self._blocks.get(index)
        if isinstance(block, OpenBlock):
            self._blocks[index] = block.finish(partial=data.get("partial", False))

    def _drop_from(self, index: int) -> None:
        for later in [known for known in self._blocks if known >= index]:
            del self._blocks[later]


def _opened(index: int, data: Mapping[str, Any]) -> OpenBlock:
    return OpenBlock(index, index, data["block_type"], data.get("content"), implicit=False)


def _caught_up(data: Mapping[str, Any]) -> Block | OpenBlock:
    """Return the block of a catch-up, which replaces the client's block."""
    index, block_type = data["block_index"], data["block_type"]
    text: str | None = data.get("accumulated_text")
    content: dict[str, Any] | None = data.get("content")
    if data["complete"]:
        return Block(index, block_type, text, content, data.get("partial", False))
    block = _opened(index, data)
    if signature := block.content.pop("signature", None):
        block.sign(signature)
    block.append(data.get("input_partial") or text or "")
    return block
