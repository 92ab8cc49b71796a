"""An answer being watched, for asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Self

from turnstream.client.answers import Interrupted
from turnstream.client.following import FrameStream
from turnstream.client.transport import Request, Transport
from turnstream.client.watched_turn import Frame, NativeEvent, WatchedTurn, turn_events
from turnstream.core.turn_events import TurnEvent


class AsyncTurn(WatchedTurn):
    """A turn that is watched by iterating over it; `blocks`, `text`, `status`, `usage` and the others are true at any
    time.

        async with await client.send("Why is the sky blue?") as turn:
            async for event in turn:
                ...

    It follows the turn to its end, whatever happens to connections and servers; see `Retry` for how long it tries.
    Leaving the loop or the context lets go of the connection, and nothing else: the answer goes on on the server
    (`interrupt` stops it), and another loop over the same turn goes on where this one was left.

    Iterating raises NotFound, Unauthorized and other errors of our tree that trying again cannot mend; a turn that
    failed is no exception here: its `status` is `error`, and `error` says why.
    """

    def __init__(self, transport: Transport, turn_id: str, *, after: str | None = None) -> None:
        super().__init__(turn_id, after=after)
        self.transport = transport
        self._following = FrameStream(transport, self)
        self._loop: object | None = None
        """The loop that is watching. One that was left may end late, when nobody holds it any more."""
        self._is_reading = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def losses(self) -> int:
        """Connections that were lost so far, or could not be made."""
        return self._following.losses

    def close(self) -> None:
        """Let go of the connection. The turn goes on."""
        self._following.close()

    async def __aiter__(self) -> AsyncGenerator[TurnEvent, None]:
        loop = self._begin()
        try:
            while (frames := await self._next_frames()) is not None:
                for frame in frames:
                    taken = self.take(frame)
                    for event in turn_events(taken) if taken is not None else ():
                        yield event
                        self._check(loop)
        finally:
            self._end(loop)

    async def wait(self) -> Self:
        """Follow it to its end."""
        loop = self._begin()
        try:
            while await self.native() is not None:
                self._check(loop)
        finally:
            self._end(loop)
        return self

    async def native(self) -> Sequence[NativeEvent] | None:
        """What came with one read, folded already, for who renders the protocol's own events: nothing when the
        connection was lost or gave a mere sign of life, None at the end."""
        frames = await self._next_frames()
        if frames is None:
            return None
        events = [taken for frame in frames if (taken := self.take(frame)) is not None]
        if self.ended:
            self.close()
        return events

    async def interrupt(self) -> Interrupted:
        """Stop the turn; its last events still come. Its true status is answered."""
        return await self.transport.ask(Request("POST", f"/turns/{self.turn_id}/interrupt"), Interrupted)

    async def _next_frames(self) -> Sequence[Frame] | None:
        if self.ended:
            return None
        self._check(self._loop)
        self._is_reading = True
        try:
            return await self._following.step()
        finally:
            self._is_reading = False

    def _begin(self) -> object:
        """Watch from here on, from where another loop was left."""
        self._check(self._loop)
        if self._loop is not None:
            self.close()  # what that loop had read, and did not take, comes again
        self._loop = object()
        return self._loop

    def _end(self, loop: object) -> None:
        if loop is self._loop:
            self._loop = None
            self.close()

    def _check(self, loop: object | None) -> None:
        """Raises RuntimeError where two loops watch at once."""
        if self._is_reading or loop is not self._loop:
            raise RuntimeError(
                "this turn is being iterated already: client.watch(turn_id) makes another watcher"
            )
