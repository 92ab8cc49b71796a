"""TurnEvents as the relay's events (docs/reference/protocols.md).

id: 01a1fc3d-f972-7b3d-9880-2b4d5256380e:42-118
event: chunk
data: {"text":"Hello"}

The id has the turn, the number of the event, and the characters of text so far. The order of the lines is
fixed: clients take the line after `event:` for the data.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import msgspec
from msgspec.structs import replace

from turnstream.core.turn_events import (
    BlockCatchup,
    BlockDelta,
    BlockStart,
    TurnCancelled,
    TurnComplete,
    TurnError,
    TurnEvent,
    TurnStart,
)
from turnstream.dialects.repetition import AppendingEncoder, Repeating, RepetitionEncoder
from turnstream.turnlog.base import DialectEncoder

HEARTBEAT = b": keep-alive\n\n"
HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}
STOPPED = "the answer was stopped"
LOST = "a part of the answer that was shown is lost: load the conversation again"

_END = b"end"
_encode = msgspec.json.Encoder().encode


class RelayPosition(NamedTuple):
    """The position of a client in an answer, as an id has it.

    Attributes:
        shown: Characters of text that the client has. None: it has the end.
    """

    turn_id: str
    shown: int | None


def parse_position(text: str) -> RelayPosition | None:
    """Return the position in an id, or None if `text` is not an id of this protocol."""
    turn_id, _, cursor = text.partition(":")
    seq, _, shown = cursor.partition("-")
    if not turn_id or not _is_number(seq) or not (_is_number(shown) or shown == "end"):
        return None
    return RelayPosition(turn_id, None if shown == "end" else int(shown))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 18


class RelayState(msgspec.Struct, frozen=True, gc=False):
    """The state of a stream at a cursor.

    Attributes:
        length: Characters of text so far, with those that the client has.
        last_block: Index of the last block that has begun, or -1.
        failure: The error that ended the turn, or None.
    """

    length: int = 0
    last_block: int = -1
    is_over: bool = False
    failure: TurnError | None = None


def relay_state(state: object) -> RelayState:
    """Return the state of the stream within the state of a `RepetitionEncoder`."""
    return cast(RelayState, state.inner if isinstance(state, Repeating) else state)


class RelayEncoder(AppendingEncoder):
    """Encodes the events of one turn.

    Args:
        shown: Characters of text that the client has already.
    """

    def __init__(self, turn_id: str, shown: int = 0) -> None:
        self.name = f"relay after {shown}" if shown else "relay"
        self._id = b"id: %b:" % turn_id.encode()
        self._shown = shown

    def begin(self) -> RelayState:
        """Return the state before the turn's first event."""
        return RelayState()

    def encode(self, state: object, seq: int, event: TurnEvent) -> tuple[bytes, object]:
        """Return the frames of one event, and the state after it. See `DialectEncoder.encode`."""
        now = cast(RelayState, state)
        if type(event) is BlockDelta:
            if event.field != "text" or event.block_type != "text" or now.is_over:
                return b"", now
            return self._chunk(now, seq, event.value)
        if now.is_over:
            return b"", now
        match event:
            case TurnStart():  # an id alone: a client that reconnects now resumes this turn
                return (b"" if self._shown else b"%b%d-0\n\n" % (self._id, seq)), now
            case BlockStart():
                return b"", replace(now, last_block=event.block_index)
            case BlockCatchup():
                now = replace(now, last_block=event.block_index)
                text = event.accumulated_text if event.block_type == "text" else None
                return self._chunk(now, seq, text) if text else (b"", now)
            case TurnComplete():
                return self._complete(now, seq, event)
            case TurnError():
                return self._fail(replace(now, failure=event), seq, event.error)
            case TurnCancelled():
                return self._fail(now, seq, STOPPED)
            case _:
                return b"", now

    def _chunk(self, state: RelayState, seq: int, text: str) -> tuple[bytes, RelayState]:
        length = state.length + len(text)
        after = replace(state, length=length)
        if length <= self._shown:
            return b"", after
        new = text[max(0, self._shown - state.length) :]
        data = b'\nevent: chunk\ndata: {"text":%b}\n\n' % _encode(new)
        return b"%b%d-%d%b" % (self._id, seq, length, data), after

    def _complete(self, state: RelayState, seq: int, event: TurnComplete) -> tuple[bytes, RelayState]:
        if state.length < self._shown:
            return self._fail(state, seq, LOST)
        cost = event.cost if isinstance(event.cost, str) else "0"
        account = b'{"inputTokens":%d,"outputTokens":%d,"totalCost":%b}' % (
            event.input_tokens or 0,
            event.output_tokens or 0,
            cost.encode(),
        )
        frames = (
            b"%b%d-%d\nevent: cost\ndata: %b\n\n" % (self._id, seq, state.length, account),
            b"%b%d-%b\nevent: done\ndata: {}\n\n" % (self._id, seq, _END),
        )
        return b"".join(frames), replace(state, is_over=True)

    def _fail(self, state: RelayState, seq: int, message: str) -> tuple[bytes, RelayState]:
        data = _encode({"error": message})
        frame = b"%b%d-%b\nevent: error\ndata: %b\n\n" % (self._id, seq, _END, data)
        return frame, replace(state, is_over=True)


def encoder_of(turn_id: str, shown: int = 0) -> DialectEncoder:
    """Return the encoder of a turn for a client that has `shown` characters of its text."""
    return RepetitionEncoder(RelayEncoder(turn_id, shown))
