"""The events of many turns over one connection, and their watcher for asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from turnstream.client.following import AsyncFollowing
from turnstream.client.transport import Transport
from turnstream.client.watched_turn import Frame
from turnstream.core.cursor import Cursor
from turnstream.core.native_fold import NativeEvent, native_event
from turnstream.errors import TurnstreamError
from turnstream.tracebacks import short_tracebacks, shorten

ANOTHER_WATCHER = "client.events() makes another watcher"
_LAST_CODE = "chat_deleted"
"""Code of the `events_end` after which nothing follows."""


class WatchedEvents:
    """The state of a watcher of many turns. It does no I/O.

    Args:
        path: Path of the stream.
        after: Cursor after which it starts, such as an earlier `last_id`. None: the running turns.
    """

    def __init__(self, path: str, *, after: str | None = None) -> None:
        self.path = path
        self.last_id = after
        """Cursor of the last event. Another object can resume from it, also in another process."""
        self.ended = False
        """True if nothing follows, because the chat was deleted."""
        self.status = "waiting"
        self._moves = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}, after {self.last_id}>"

    @property
    def position(self) -> Cursor:
        """A cursor that rises with each cursor received. The limit of attempts compares it."""
        return Cursor(0, self._moves)

    def connected(self) -> None:
        """Do nothing: after a reconnect, the server repeats no event."""

    def end_reached(self) -> None:
        """Record that nothing follows."""
        self.ended = True

    def take(self, frame: Frame) -> NativeEvent:
        """Return the event of a frame, and move the position after it. Raises MalformedEvent."""
        event = native_event(frame)
        last_id = frame[2].decode("utf-8", "replace") if frame[2] else self.last_id
        self._moves += last_id != self.last_id
        self.last_id = last_id
        self.ended = event.name == "events_end" and event.data.get("code") == _LAST_CODE
        return event


@short_tracebacks
class AsyncEvents(AsyncFollowing, WatchedEvents):
    """The events of all turns of the caller, or of one chat, as PROTOCOL.md lists them.

        async for event in client.events():
            print(event.name, event.data.get("turn_id"))

    The iteration reconnects, and continues after the last event. It ends if its chat is deleted. `Retry`
    limits its attempts. After `events_start`, what the caller knows of turns and chats is outdated.

    Leaving the loop or the context closes the connection. Another loop over the same object continues after
    the last event. Iteration raises errors that a retry cannot fix, such as NotFound and Unauthorized.
    """

    def __init__(self, transport: Transport, path: str, *, after: str | None = None) -> None:
        WatchedEvents.__init__(self, path, after=after)
        AsyncFollowing.__init__(self, transport, self, ANOTHER_WATCHER)

    async def __aiter__(self) -> AsyncGenerator[NativeEvent, None]:
        loop = self._one_loop.begin()
        try:
            while not self.ended:
                frames = await self._one_loop.read(self._following.step)
                if frames is None:
                    return
                for frame in frames:
                    yield self.take(frame)
                    self._one_loop.check(loop)
        except TurnstreamError as error:
            shorten(error)
            raise
        finally:
            self._one_loop.end(loop)
