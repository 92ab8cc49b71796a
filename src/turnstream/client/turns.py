"""A watched turn for asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Self

from turnstream.client.answers import Interrupted
from turnstream.client.following import AsyncFollowing
from turnstream.client.transport import Request, Transport
from turnstream.client.watched_turn import Frame, WatchedTurn, turn_events
from turnstream.core.native_fold import NativeEvent
from turnstream.core.turn_events import TurnEvent
from turnstream.errors import TurnstreamError
from turnstream.tracebacks import short_tracebacks, shorten

ANOTHER_TURN_WATCHER = "client.watch(turn_id) makes another watcher"


@short_tracebacks
class AsyncTurn(AsyncFollowing, WatchedTurn):
    """A turn that is watched by iteration. `blocks`, `text`, `status`, `usage` etc. are always current.

        async with await client.send("Why is the sky blue?") as turn:
            async for event in turn:
                ...

    The iteration reconnects until the turn has ended. `Retry` limits its attempts. Leaving the loop or the
    context only closes the connection: the turn continues on the server (`interrupt` stops it), and another
    loop over the same turn continues after the last event.

    Iteration raises errors that a retry cannot fix, such as NotFound and Unauthorized. A failed turn does not
    raise: its `status` is `error`, and `error` has the reason.
    """

    def __init__(self, transport: Transport, turn_id: str, *, after: str | None = None) -> None:
        WatchedTurn.__init__(self, turn_id, after=after)
        AsyncFollowing.__init__(self, transport, self, ANOTHER_TURN_WATCHER)

    async def __aiter__(self) -> AsyncGenerator[TurnEvent, None]:
        loop = self._one_loop.begin()
        try:
            while (frames := await self._next_frames()) is not None:
                for frame in frames:
                    taken = self.take(frame)
                    for event in turn_events(taken) if taken is not None else ():
                        yield event
                        self._one_loop.check(loop)
        except TurnstreamError as error:
            shorten(error)
            raise
        finally:
            self._one_loop.end(loop)

    async def wait(self) -> Self:
        """Watch the turn until its end."""
        loop = self._one_loop.begin()
        try:
            while await self.native() is not None:
                self._one_loop.check(loop)
        finally:
            self._one_loop.end(loop)
        return self

    async def native(self) -> Sequence[NativeEvent] | None:
        """Return the protocol's events of one read, already folded.

        Return an empty sequence if the connection was lost or brought only a heartbeat. Return None at the
        turn's end.
        """
        frames = await self._next_frames()
        if frames is None:
            return None
        events = [taken for frame in frames if (taken := self.take(frame)) is not None]
        if self.ended:
            self.close()
        return events

    async def interrupt(self) -> Interrupted:
        """Stop the turn, and return its status. Its last events still arrive."""
        return await self.transport.ask(Request("POST", f"/turns/{self.turn_id}/interrupt"), Interrupted)

    async def _next_frames(self) -> Sequence[Frame] | None:
        return None if self.ended else await self._one_loop.read(self._following.step)
