"""TurnEvents as chunks of the AI SDK's UI message stream (docs/reference/protocols.md).

data: {"type":"text-delta","id":"…-0","delta":"Hello"}

One UI message shows a chain of turns: a turn that ended with calls for the client, the client's results, and
the turn that continues with them. The chain has the id of its first turn. The encoders of its turns pass on
their state.
"""

from __future__ import annotations

from typing import cast

import msgspec
from msgspec.structs import replace

from turnstream.core.turn_events import (
    ApprovalRequest,
    BlockDelta,
    TurnCancelled,
    TurnComplete,
    TurnError,
    TurnEvent,
)
from turnstream.dialects.ai_sdk.chunk_writer import ChunkWriter, Major
from turnstream.dialects.ai_sdk.stream_state import StreamState
from turnstream.dialects.repetition import AppendingEncoder, RepetitionEncoder
from turnstream.turnlog.base import DialectEncoder

HEARTBEAT = b": keep-alive\n\n"
HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
    "x-vercel-ai-ui-message-stream": "v1",
}

_BEGIN = StreamState()
_encode = msgspec.json.Encoder().encode


class AiSdkEncoder(AppendingEncoder):
    """Encodes the events of one turn as chunks.

    Args:
        turn_id: The turn.
        message_id: Id of the UI message: the first turn of its chain.
        major: Major version of the reader. 5 gives chunks that all majors read.
        ends_message: False if another turn of the chain follows, which begins in this turn's last state.
    """

    def __init__(self, turn_id: str, message_id: str, *, major: Major = 5, ends_message: bool = True) -> None:
        self.name = f"ai-sdk-{major}" if ends_message else f"ai-sdk-{major}-part"
        self._turn_id = turn_id
        self._message_id = message_id
        self._major: Major = major
        self._ends_message = ends_message

    def begin(self) -> StreamState:
        """Return the state before the first turn of a UI message."""
        return _BEGIN

    def last_block(self, state: object) -> int:
        """Return the index of the last block that was shown, or -1."""
        return cast(StreamState, state).next_index - 1

    def needs_replay(self, state: object) -> bool:
        """Return True if the client has dropped parts of a step that are not retracted."""
        return cast(StreamState, state).is_lost

    def is_settled(self, state: object) -> bool:
        """Return False if an approval has no answer. The client continues the turn with a request."""
        return not cast(StreamState, state).asked

    def settle(self, state: object) -> tuple[bytes, object]:
        """Return the chunks that end the stream of a turn that waits, and the state after them."""
        writer = self._writer(cast(StreamState, state))
        writer.pause()
        return b"".join(writer.frames), writer.state

    def resume(self, state: StreamState) -> tuple[bytes, StreamState]:
        """Return the first chunks for a client that has all chunks up to `state`."""
        writer = self._writer(state)
        writer.resume()
        return b"".join(writer.frames), writer.state

    def encode(self, state: object, seq: int, event: TurnEvent) -> tuple[bytes, object]:
        """Return the chunks of one event, and the state after it. See `DialectEncoder.encode`."""
        now: StreamState = state  # type: ignore[assignment]
        if type(event) is BlockDelta:
            block = now.block
            if block is None or event.field == "signature" or now.is_over:
                return b"", state
            if event.field != "content":
                text: str = event.value
                if block.text is not None:
                    now = replace(now, block=replace(block, text=block.text.plus(text)))
                if not block.delta_head or not text:
                    return b"", now
                return b"%b%b}\n\n" % (block.delta_head, _encode(text)), now
        if now.is_over:
            return b"", state
        writer = self._writer(now)
        writer.write(seq, event)
        return b"".join(writer.frames), writer.state

    def _writer(self, state: StreamState) -> ChunkWriter:
        return ChunkWriter(state, self._turn_id, self._message_id, self._major, ends=self._ends_message)


class ResumingEncoder:
    """Encodes the rest of a turn for a client that has answered approvals: the events after their requests.

    Args:
        approvals: Ids of the approvals.
    """

    def __init__(self, encoder: AiSdkEncoder, approvals: frozenset[str]) -> None:
        self.name = f"{encoder.name} after {' '.join(sorted(approvals))}"
        self._encoder = encoder
        self._approvals = approvals

    def begin(self) -> object:
        """Return the state before the turn's first event."""
        return SkippedEvents(self._encoder.begin(), self._approvals)

    def is_over(self, state: object) -> bool:
        """Return True if the stream has ended."""
        return not isinstance(state, SkippedEvents) and self._encoder.is_over(state)

    def last_block(self, state: object) -> int:
        """Return the index of the last block that the client has, or -1."""
        return self._encoder.last_block(_inner(state))

    def needs_replay(self, state: object) -> bool:
        """Return True if the client has dropped parts of a step that are not retracted."""
        return self._encoder.needs_replay(_inner(state))

    def is_settled(self, state: object) -> bool:
        """Return False if another approval has no answer."""
        return isinstance(state, SkippedEvents) or self._encoder.is_settled(state)

    def settle(self, state: object) -> tuple[bytes, object]:
        """Return the chunks that end the stream of a turn that waits, and the state after them."""
        return self._encoder.settle(state)

    def encode(self, state: object, seq: int, event: TurnEvent) -> tuple[bytes, object]:
        """Return the chunks of one event, and the state after it. See `DialectEncoder.encode`."""
        if not isinstance(state, SkippedEvents):
            return self._encoder.encode(state, seq, event)
        if isinstance(event, TurnComplete | TurnError | TurnCancelled):  # the requests are not there
            began, inner = self._encoder.resume(state.inner)
            data, after = self._encoder.encode(inner, seq, event)
            return began + data, after
        _, after = self._encoder.encode(state.inner, seq, event)
        inner = cast(StreamState, after)
        left = state.approvals
        if isinstance(event, ApprovalRequest):
            left -= {event.approval_id}
        return (b"", SkippedEvents(inner, left)) if left else self._encoder.resume(inner)


class SkippedEvents(msgspec.Struct, frozen=True, gc=False):
    """The state of a stream before the events that its client lacks.

    Attributes:
        inner: The state of the chunks that the client has.
        approvals: Ids of the approvals whose requests have not come yet.
    """

    inner: StreamState
    approvals: frozenset[str]


def _inner(state: object) -> object:
    return state.inner if isinstance(state, SkippedEvents) else state


def encoder_of(
    turn_id: str,
    message_id: str,
    major: Major,
    *,
    ends_message: bool = True,
    answered: frozenset[str] = frozenset(),
) -> DialectEncoder:
    """Return the encoder of one turn. Readers before major 7 cannot retract text.

    Args: see `AiSdkEncoder`.
        answered: Ids of approvals that the client has answered. The client has the events up to their
            requests.
    """
    plain = AiSdkEncoder(turn_id, message_id, major=major, ends_message=ends_message)
    encoder = ResumingEncoder(plain, answered) if answered else plain
    return encoder if major == 7 else RepetitionEncoder(encoder)
