"""The events of many turns over one connection, for asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from turnstream.client.following import FrameStream
from turnstream.client.transport import Transport
from turnstream.client.watched_turn import Frame, NativeEvent, native_event
from turnstream.core.cursor import Cursor

_LAST_CODE = "chat_deleted"
"""Code of the `events_end` after which nothing follows."""


class AsyncEvents:
    """The events of all turns of the caller, or of one chat, as PROTOCOL.md lists them.

        async for event in client.events():
            print(event.name, event.data.get("turn_id"))

    The iteration reconnects, and continues after the last event. It ends if its chat is deleted. `Retry`
    limits its attempts. After `events_start`, what the caller knows of turns and chats is outdated.

    Args:
        path: Path of the stream.
        after: Cursor after which it starts, such as an earlier `last_id`. None: the running turns.
    """

    def __init__(self, transport: Transport, path: str, *, after: str | None = None) -> None:
        self.path = path
        self.last_id = after
        """Cursor of the last event. Another object can resume from it, also in another process."""
        self.ended = False
        """True if nothing follows, because the chat was deleted."""
        self.status = "waiting"
        self._received = 0
        self._following = FrameStream(transport, self)

    @property
    def position(self) -> Cursor:
        """Number of events that were received, for the limit of attempts."""
        return Cursor(0, self._received)

    def connected(self) -> None:
        """Do nothing: the server sends no event again."""

    def end_reached(self) -> None:
        """Record that nothing follows."""
        self.ended = True

    def close(self) -> None:
        """Close the connection. The next iteration continues after the last event."""
        self._following.close()

    async def __aiter__(self) -> AsyncGenerator[NativeEvent, None]:
        try:
            while not self.ended and (frames := await self._following.step()) is not None:
                for frame in frames:
                    yield self._take(frame)
        finally:
            self.close()

    def _take(self, frame: Frame) -> NativeEvent:
        event = native_event(frame)
        if frame[2]:
            self.last_id = frame[2].decode("utf-8", "replace")
        self._received += 1
        self.ended = event.name == "events_end" and event.data.get("code") == _LAST_CODE
        return event
