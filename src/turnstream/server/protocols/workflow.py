"""The AI SDK's workflow transport: a stream continues after a number of chunks.

    POST {api}                                answers with the header `x-workflow-run-id`
    GET {api}/{run id}/stream?startIndex=N    the chunks from number N on, up to `finish`

The client counts the chunks that it got. A negative N counts from the newest chunk back.
"""

from __future__ import annotations

from typing import NamedTuple

from turnstream.core.cursor import Cursor
from turnstream.core.turn_events import TurnEvent
from turnstream.dialects.ai_sdk.chunk_writer import DONE, chunk_frame
from turnstream.errors import InvalidRequest, ResumeImpossible
from turnstream.turnlog.base import Sink
from turnstream.turnlog.dialect_subscription import DialectSubscription

RUN_HEADER = "x-workflow-run-id"
TAIL_HEADER = "x-workflow-stream-tail-index"
_SEPARATOR = "+"
_END = b"\n\n"


class WorkflowRun(NamedTuple):
    """The stream that a POST began: a turn, or the rest of a turn after answers to approvals."""

    turn_id: str
    answered: frozenset[str] = frozenset()

    @property
    def run_id(self) -> str:
        """The run's id for clients."""
        return _SEPARATOR.join((self.turn_id, *sorted(self.answered)))


def parse_run(run_id: str) -> WorkflowRun:
    """Return the run of an id."""
    turn_id, *answered = run_id.split(_SEPARATOR)
    return WorkflowRun(turn_id, frozenset(answered))


def parse_start(text: str) -> int:
    """Return a start index. Raises InvalidRequest."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        raise InvalidRequest("startIndex is not a whole number")
    return int(text)


class ContinuedStream:
    """A watcher that skips the first chunks of a stream. See `continued`."""

    __slots__ = ("_chunks", "_subscription", "tail")

    def __init__(self, subscription: DialectSubscription, chunks: bytes, tail: int) -> None:
        self._subscription = subscription
        self._chunks = chunks
        self.tail = tail
        """Number of the newest chunk when the client connected, or -1."""

    @property
    def label(self) -> str:
        """Name of the turn, for log lines."""
        return self._subscription.label

    @property
    def cursor(self) -> Cursor:
        """Cursor in the turn."""
        return self._subscription.cursor

    @property
    def at_end(self) -> bool:
        """True if the stream has ended. Nothing follows."""
        return not self._chunks and self._subscription.at_end

    @property
    def lag(self) -> int:
        """Number of events that have not been returned yet."""
        return self._subscription.lag

    async def next(self, sink: Sink | None = None) -> bytes | None:
        """Return the next frames. See `Subscription.next`."""
        if self._chunks:
            chunks, self._chunks = self._chunks, b""
            return chunks
        return await self._subscription.next(sink)

    def frame(self, event: TurnEvent) -> bytes:
        """Return the frames of an event for this watcher only."""
        return self._subscription.frame(event)

    def unreadable(self) -> bytes:
        """Return the frames that tell the client that the events cannot be read."""
        return self._subscription.unreadable()

    def nudge(self) -> None:
        """Make a waiting `next` return b""."""
        self._subscription.nudge()

    def close(self) -> None:
        """Make `next` return None from now on."""
        self._subscription.close()


async def continued(subscription: DialectSubscription, start: int) -> ContinuedStream:
    """Return the rest of a new subscription's stream from the chunk `start` on.

    If a stop or an error ended the stream without `finish`, the rest ends with a `finish`. Otherwise the
    client would repeat its request forever.

    Raises ResumeImpossible if the turn's first events are no longer in memory, or if text was retracted and
    kept parts were sent again: the chunks cannot be counted then. Raises StoreError.
    """
    sent: list[bytes] = []
    while subscription.is_exact and isinstance(data := await subscription.ready(), bytes):
        sent.append(data)
    if not subscription.is_exact:
        raise ResumeImpossible(
            "the chunks of this turn can no longer be counted: load the chat, or resume without startIndex"
        )
    chunks = [frame + _END for frame in b"".join(sent).split(_END)[:-1]]
    count = len(chunks) - (chunks[-1:] == [DONE])
    first = start if start >= 0 else max(0, count + start)
    rest = b"".join(chunks[first:])
    if subscription.at_end and first >= count:
        rest = chunk_frame({"type": "finish", "finishReason": "other"}) + DONE
    return ContinuedStream(subscription, rest, count - 1)
