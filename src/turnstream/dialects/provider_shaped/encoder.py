"""TurnEvents in the shape of a provider's stream, encoded by the serving half of a wire.

The state at a cursor holds an encoder of the wire. It is never fed again, so any number of watchers may
share it: a rare event feeds a fork of it. Nearly all events are text, which changes nothing. For such an
event, the encoder only puts its JSON text between two byte strings, as in the native dialect.

Some clients split a stream at U+0085, U+2028 and U+2029 too. So these characters are always escaped.

A dialect is a wire, a function that makes the wire's encoder for a turn, and the types of shown blocks:

    ProviderShapedEncoder("openai-chat", new_encoder, Projection(client_tools, BLOCK_TYPES))

The wire's encoder needs `fork` and `delta_frame` (`wires.base.ForkingEncoder`). Wrap the result in a
`RepetitionEncoder`, because no provider's protocol can retract text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import msgspec
from msgspec.structs import replace

from turnstream.core.stream_events import MessageStart, StreamError, StreamEvent
from turnstream.core.turn_events import (
    BlockCatchup,
    BlockDelta,
    BlockStart,
    BlockStop,
    Terminal,
    TurnCancelled,
    TurnComplete,
    TurnError,
    TurnEvent,
    TurnStart,
)
from turnstream.dialects.provider_shaped.projection import (
    BlockEvent,
    ProjectedBlock,
    Projection,
    events_of_end,
)
from turnstream.dialects.repetition import AppendingEncoder, Repeating
from turnstream.wires.base import DeltaFrame, ForkingEncoder
from turnstream.wires.shared.lenient_json import encode_text, on_one_line


class AnswerState(msgspec.Struct, frozen=True, gc=False):
    """The state of an answer at a cursor.

    Attributes:
        encoder: The wire's encoder. None before the turn's start.
        block: The block that is being shown, or None.
        frame: The bytes around the next deltas of that block. None if the encoder must write each delta.
        last_block: Index of the last block that the client saw, or -1.
        end: The events of the turn's end. Nothing may follow them.
    """

    encoder: ForkingEncoder | None = None
    block: ProjectedBlock | None = None
    frame: DeltaFrame | None = None
    last_block: int = -1
    end: tuple[StreamEvent, ...] = ()

    @property
    def is_over(self) -> bool:
        """True if the turn has ended."""
        return bool(self.end)

    @property
    def has_output(self) -> bool:
        """True if a part of the answer was sent, and not only its beginning."""
        return self.last_block >= 0

    @property
    def failure(self) -> StreamError | None:
        """The error that ended the answer, or None."""
        last = self.end[-1] if self.end else None
        return last if isinstance(last, StreamError) else None


_BEGIN = AnswerState()
_TEXT_FIELDS = frozenset({"text", "partial_json"})


def answer_state(state: object) -> AnswerState:
    """Return the state of the answer within the state of a `RepetitionEncoder`."""
    return cast(AnswerState, state.inner if isinstance(state, Repeating) else state)


class ProviderShapedEncoder(AppendingEncoder):
    """Encodes the events of one turn as the answer of one model call.

    Args:
        name: Name of the dialect, with its options: frames are shared by this name.
        new_encoder: Makes the wire's encoder from the turn's first event. It uses nothing else that changes,
            so that a replay has the same bytes.
        projection: Makes the StreamEvents.
    """

    def __init__(
        self, name: str, new_encoder: Callable[[TurnStart], ForkingEncoder], projection: Projection
    ) -> None:
        self.name = name
        self._new_encoder = new_encoder
        self._projection = projection

    def begin(self) -> AnswerState:
        """Return the state before a turn's first event."""
        return _BEGIN

    def encode(self, state: object, seq: int, event: TurnEvent) -> tuple[bytes, object]:
        """Return the bytes of one event, and the state after it. See `DialectEncoder.encode`."""
        del seq
        now: AnswerState = state  # type: ignore[assignment]
        if type(event) is BlockDelta and (frame := now.frame) is not None and event.field in _TEXT_FIELDS:
            text = encode_text(event.value)
            if not text.isascii():
                text = on_one_line(text)
            return b"%b%b%b" % (frame.head, text, frame.tail), state
        return (b"", state) if now.end else self._encode_rare(now, event)

    def _encode_rare(self, state: AnswerState, event: TurnEvent) -> tuple[bytes, AnswerState]:
        match event:
            case TurnStart():
                return self._start(state, event)
            case BlockStart() | BlockDelta() | BlockCatchup() | BlockStop():
                return self._show(state, event)
            case TurnComplete() | TurnError() | TurnCancelled():
                return self._end(state, event)
            case _:
                return b"", state

    def _start(self, state: AnswerState, event: TurnStart) -> tuple[bytes, AnswerState]:
        if state.encoder is not None:
            return b"", state
        encoder = self._new_encoder(event)
        return on_one_line(encoder.feed((MessageStart(),))), replace(state, encoder=encoder)

    def _show(self, state: AnswerState, event: BlockEvent) -> tuple[bytes, AnswerState]:
        events, block = self._projection.of_block(state.block, event)
        if not events or state.encoder is None:
            return b"", replace(state, block=block, frame=None if block is not state.block else state.frame)
        encoder = state.encoder.fork()
        data = encoder.feed(events)
        frame: DeltaFrame | None = None
        if block is not None and block.is_plain:
            frame = encoder.delta_frame(block.index, block.block_type)
        return on_one_line(data), AnswerState(encoder, block, frame, max(state.last_block, event.block_index))

    @staticmethod
    def _end(state: AnswerState, event: Terminal) -> tuple[bytes, AnswerState]:
        if state.encoder is None:
            return b"", state  # the connection is cut: nothing of this answer can be shown
        encoder = state.encoder.fork()
        events = events_of_end(event)
        data = encoder.feed(events) + encoder.close()
        return on_one_line(data), replace(state, encoder=encoder, block=None, frame=None, end=tuple(events))
