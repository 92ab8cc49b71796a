"""The native dialect: TurnEvents as server-sent events (PROTOCOL.md).

event: block_delta
data: {"type":"block_delta","turn_id":"…","block_index":0,"block_type":"text","delta":{"text":"Hello"}}
id: 1804289383-42

The id is the last line. Some readers store an id when its line ends, before the event is complete. If the id
came first and the connection broke inside the event, such a reader would lose the event.
"""

from __future__ import annotations

from typing import Any

import msgspec

from turnstream.core.blocks import BlockType
from turnstream.core.owner_events.events import ChatEvent
from turnstream.core.turn_events import BlockDelta, BlockReset, DeltaField, TurnEvent

CONTENT_TYPE = "text/event-stream; charset=utf-8"
HEARTBEAT = b": keep-alive\n\n"

_DELTA = b"event: block_delta\n"

_encode = msgspec.json.Encoder().encode


class _DeltaData(msgspec.Struct, frozen=True, gc=False):
    """The data of a `block_delta`, whose delta has one field."""

    block_index: int
    block_type: BlockType
    delta: dict[DeltaField, Any]


_decode = msgspec.json.Decoder(TurnEvent).decode
_decode_delta = msgspec.json.Decoder(_DeltaData).decode


def event_name(event: TurnEvent | ChatEvent) -> str:
    """Return the `event:` of a frame: the event's tag."""
    return str(type(event).__struct_config__.tag)


def chat_event_frame(event: ChatEvent, cursor: bytes) -> bytes:
    """Return the frame of an event of a stream with many turns. If `cursor` is empty, the frame has no id."""
    name, data = event_name(event).encode(), _encode(event)
    if not cursor:
        return b"event: %b\ndata: %b\n\n" % (name, data)
    return b"event: %b\ndata: %b\nid: %b\n\n" % (name, data, cursor)


class NativeEncoder:
    """Encodes the events of one turn as frames."""

    __slots__ = ("_delta_heads", "_id", "_turn", "_turn_id")

    def __init__(self, turn_id: str, generation: int) -> None:
        self._turn_id = turn_id
        self._id = b"\nid: %d-" % generation
        self._turn = b'"turn_id":' + _encode(turn_id) + b","
        self._delta_heads: dict[tuple[int, str], bytes] = {}

    def frame(self, seq: int, event: TurnEvent) -> bytes:
        """Return the whole frame of `event`, blank line included."""
        if type(event) is BlockDelta:
            head = self._delta_heads.get((event.block_index, event.field)) or self._delta_head(event)
            return b"%b%b}}%b%d\n\n" % (head, _encode(event.value), self._id, seq)
        return b"event: %b\ndata: %b%b%d\n\n" % (
            event_name(event).encode(),
            self.data(event),
            self._id,
            seq,
        )

    def events(self, frames: bytes) -> list[tuple[int, TurnEvent]]:
        """Return the events of whole frames, with their seqs."""
        return [_event_of(frame) for frame in frames.split(b"\n\n") if frame]

    def of_generation(self, generation: int) -> NativeEncoder:
        """Return a new encoder of the same turn for `generation`."""
        return NativeEncoder(self._turn_id, generation)

    def data(self, event: TurnEvent) -> bytes:
        """Return the JSON of a frame: the event with its `type` and the turn's id."""
        body = _encode(BlockReset(event.block_index) if isinstance(event, BlockReset) else event)
        type_end = body.index(b",") + 1 if b"," in body else len(body) - 1
        return b"%b%b%b" % (body[:type_end], self._turn, body[type_end:])

    def _delta_head(self, event: BlockDelta) -> bytes:
        """Return the first bytes of a delta's frame. All deltas of one field of a block share them.

        The cache holds only a few heads, because only the shown block grows.
        """
        if len(self._delta_heads) > 4:
            self._delta_heads.clear()
        head = (
            b'event: block_delta\ndata: {"type":"block_delta",'
            b'%b"block_index":%d,"block_type":"%b","delta":{"%b":'
            % (
                self._turn,
                event.block_index,
                event.block_type.encode(),
                event.field.encode(),
            )
        )
        self._delta_heads[event.block_index, event.field] = head
        return head


def _event_of(frame: bytes) -> tuple[int, TurnEvent]:
    """Return the seq and the event of a frame without its blank line."""
    name, data, cursor = frame.rsplit(b"\n", 2)
    seq = int(cursor.rpartition(b"-")[2])
    if name + b"\n" != _DELTA:
        return seq, _decode(data.removeprefix(b"data: "))
    delta = _decode_delta(data.removeprefix(b"data: "))
    ((field, value),) = delta.delta.items()
    return seq, BlockDelta(delta.block_index, delta.block_type, field, value)
