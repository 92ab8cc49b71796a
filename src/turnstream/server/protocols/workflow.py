"""The AI SDK's workflow transport: a stream continues after a number of chunks.

    POST {api}                                answers with the header `x-workflow-run-id`
    GET {api}/{run id}/stream?startIndex=N    the chunks from number N on, up to `finish`

The client counts the chunks that it got. With a negative N it asks for the newest chunks only. They could
begin in the middle of a part, and the client would leave out the rest of that part. So it gets all chunks. It
computes the number of the first chunk from a header, whose value makes that number 0 (`tail_of`).
"""

from __future__ import annotations

from typing import NamedTuple

from turnstream.core.cursor import Cursor
from turnstream.dialects.ai_sdk.chunk_writer import DONE, chunk_frame
from turnstream.errors import InvalidRequest, ResumeImpossible
from turnstream.turnlog.base import Sink
from turnstream.turnlog.dialect_chain import DialectChain
from turnstream.turnlog.dialect_subscription import DialectSubscription

RUN_HEADER = "x-workflow-run-id"
TAIL_HEADER = "x-workflow-stream-tail-index"
FINISH = chunk_frame({"type": "finish", "finishReason": "other"}) + DONE
"""The end for a client that has all other chunks."""
_SEPARATOR = "+"
_END = b"\n\n"
_FINISH = b'"type":"finish"'


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
        raise InvalidRequest("startIndex is not a whole number: give the number of a chunk")
    return int(text)


class ContinuedStream:
    """A watcher of a client that counts chunks.

    The client repeats its request until it gets a `finish`. So one is added if a stop or an error ended the
    stream without it.

    Args:
        watcher: The stream.
        chunks: Chunks that come first.
    """

    __slots__ = ("_chunks", "_last", "_watcher")

    def __init__(self, watcher: DialectSubscription | DialectChain, chunks: bytes = b"") -> None:
        self._watcher = watcher
        self._chunks = chunks
        self._last = b""

    @property
    def label(self) -> str:
        """Name of the turn, for log lines."""
        return self._watcher.label

    @property
    def cursor(self) -> Cursor:
        """Cursor in the turn."""
        return self._watcher.cursor

    @property
    def at_end(self) -> bool:
        """True if the stream has ended. Nothing follows."""
        return not self._chunks and self._watcher.at_end and _FINISH in self._last

    @property
    def lag(self) -> int:
        """Number of events that have not been returned yet."""
        return self._watcher.lag

    async def next(self, sink: Sink | None = None) -> bytes | None:
        """Return the next frames. See `Subscription.next`."""
        if self._chunks:
            self._last, self._chunks = self._chunks, b""
            return self._last
        data = await self._watcher.next(None if sink is None else self._noting(sink))
        if data is None and self._watcher.at_end and _FINISH not in self._last:
            data = FINISH
        if data:
            self._last = data
        return data

    def _noting(self, sink: Sink) -> Sink:
        """Return a sink that notes the last frames."""

        def take(data: bytes) -> bool:
            if not sink(data):
                return False
            self._last = data
            return True

        return take

    def unreadable(self) -> bytes:
        """Return the frames that tell the client that the events cannot be read."""
        return self._watcher.unreadable()

    def stopping(self) -> bytes:
        """Return the frames that tell the client that the server stops."""
        return self._watcher.stopping()

    def nudge(self) -> None:
        """Make a waiting `next` return b""."""
        self._watcher.nudge()

    def close(self) -> None:
        """Make `next` return None from now on."""
        self._watcher.close()


def tail_of(start: int) -> int:
    """Return the number of the newest chunk, as the header gives it. From it the client computes 0."""
    return -start - 1


async def continued(subscription: DialectSubscription, start: int) -> ContinuedStream:
    """Return the rest of a new subscription's stream from the chunk `start` on, which is positive.

    Raises ResumeImpossible if the turn's first events are no longer in memory, or if text was retracted and
    kept parts were sent again: the chunks cannot be counted then. Raises StoreError.
    """
    sent: list[bytes] = []
    while subscription.is_exact and isinstance(data := await subscription.ready(), bytes):
        sent.append(data)
    if not subscription.is_exact:
        raise uncountable()
    chunks = [frame + _END for frame in b"".join(sent).split(_END)[:-1]]
    has_all = subscription.at_end and start >= len(chunks) - 1  # the last one is DONE
    return ContinuedStream(subscription, FINISH if has_all else b"".join(chunks[start:]))


def uncountable() -> ResumeImpossible:
    """Return the error of a request for the rest of a stream whose chunks cannot be counted."""
    return ResumeImpossible(
        "the chunks of this answer can no longer be counted: load the chat, or resume without startIndex"
    )
