"""The client for code without asyncio. Its event loop runs in a separate thread."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from datetime import date
from typing import Any, Self, Unpack

from turnstream.client.answers import (
    Approval,
    Chat,
    ChatPage,
    ChatPath,
    Interrupted,
    Model,
    StoredTurn,
    TurnList,
)
from turnstream.client.asynchronous import AsyncClient
from turnstream.client.events import ANOTHER_WATCHER, WatchedEvents
from turnstream.client.following import FollowedStream, FrameStream
from turnstream.client.questions import Content, QuestionOptions, SendOptions
from turnstream.client.retrying import Retry
from turnstream.client.transport import Request, Transport
from turnstream.client.turns import ANOTHER_TURN_WATCHER, AsyncTurn
from turnstream.client.watched_turn import Frame, WatchedTurn, turn_events
from turnstream.core.native_fold import NativeEvent
from turnstream.core.statistics.records import UsageStatistics
from turnstream.core.turn_events import TurnEvent
from turnstream.errors import TurnstreamError
from turnstream.loop_thread import LoopThread
from turnstream.tracebacks import short_tracebacks, shorten


class _Closing:
    """Base of objects that close at the end of their `with` block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        raise NotImplementedError


@short_tracebacks
class Client(_Closing):
    """`AsyncClient` for code without asyncio.

    Use it as a context manager, or call `close`. Several threads may share a client, but only one may iterate
    a turn or one object of `events`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: Retry | None = None,
    ) -> None:
        self._client = AsyncClient(base_url, api_key=api_key, headers=headers, retry=retry)
        self._thread = LoopThread("turnstream client")
        self.chats = Chats(self._client, self._thread)

    def __repr__(self) -> str:
        return f"Client({self.root!r})"

    @property
    def root(self) -> str:
        """URL of the server's routes."""
        return self._client.root

    def close(self) -> None:
        """Close all connections and stop the thread. Running calls of other threads are cancelled."""
        self._thread.close(self._client.close)

    def send(self, content: Content, *, chat_id: str | None = None, **options: Unpack[SendOptions]) -> Turn:
        """See `AsyncClient.send`."""
        return self._turn(self._thread.run(lambda: self._client.send(content, chat_id=chat_id, **options)))

    def regenerate(self, turn_id: str, **options: Unpack[QuestionOptions]) -> Turn:
        """See `AsyncClient.regenerate`."""
        return self._turn(self._thread.run(lambda: self._client.regenerate(turn_id, **options)))

    def edit(self, turn_id: str, content: Content, **options: Unpack[QuestionOptions]) -> Turn:
        """See `AsyncClient.edit`."""
        return self._turn(self._thread.run(lambda: self._client.edit(turn_id, content, **options)))

    def siblings(self, turn_id: str, *, limit: int | None = None, before: str | None = None) -> TurnList:
        """See `AsyncClient.siblings`."""
        return self._thread.run(lambda: self._client.siblings(turn_id, limit=limit, before=before))

    def watch(self, turn_id: str, *, after: str | None = None) -> Turn:
        """See `AsyncClient.watch`."""
        return self._turn(self._client.watch(turn_id, after=after))

    def events(self, chat_id: str | None = None, *, after: str | None = None) -> Events:
        """See `AsyncClient.events`."""
        events = self._client.events(chat_id, after=after)
        return Events(self._thread, events.transport, events.path, after=after)

    def read(self, turn_id: str) -> StoredTurn:
        """See `AsyncClient.read`."""
        return self._thread.run(lambda: self._client.read(turn_id))

    def interrupt(self, turn_id: str) -> Interrupted:
        """See `AsyncClient.interrupt`."""
        return self._thread.run(lambda: self._client.interrupt(turn_id))

    def approve(
        self,
        turn_id: str,
        approval_id: str,
        approved: bool,  # noqa: FBT001 - the answer itself
        reason: str | None = None,
    ) -> Approval:
        """See `AsyncClient.approve`."""
        return self._thread.run(lambda: self._client.approve(turn_id, approval_id, approved, reason))

    def models(self) -> list[Model]:
        """See `AsyncClient.models`."""
        return self._thread.run(self._client.models)

    def statistics(
        self, first_day: str | date | None = None, last_day: str | date | None = None
    ) -> UsageStatistics:
        """See `AsyncClient.statistics`."""
        return self._thread.run(lambda: self._client.statistics(first_day, last_day))

    def _turn(self, turn: AsyncTurn) -> Turn:
        made = Turn(self._thread, turn.transport, turn.turn_id, after=turn.last_id)
        made.chat_id = turn.chat_id
        return made


@short_tracebacks
class Chats:
    """Operations on chats, as `client.chats`. See `AsyncChats`."""

    def __init__(self, client: AsyncClient, thread: LoopThread) -> None:
        self._chats = client.chats
        self._thread = thread

    def create(self, title: str | None = None, metadata: Mapping[str, Any] | None = None) -> Chat:
        return self._thread.run(lambda: self._chats.create(title, metadata))

    def list(self, *, limit: int = 50, before: str | None = None, search: str | None = None) -> ChatPage:
        return self._thread.run(lambda: self._chats.list(limit=limit, before=before, search=search))

    def read(self, chat_id: str) -> Chat:
        return self._thread.run(lambda: self._chats.read(chat_id))

    def rename(self, chat_id: str, title: str | None) -> Chat:
        return self._thread.run(lambda: self._chats.rename(chat_id, title))

    def delete(self, chat_id: str) -> None:
        self._thread.run(lambda: self._chats.delete(chat_id))

    def path(
        self,
        chat_id: str,
        turn_id: str | None = None,
        *,
        limit: int | None = None,
        before: str | None = None,
    ) -> ChatPath:
        return self._thread.run(lambda: self._chats.path(chat_id, turn_id, limit=limit, before=before))

    def show(self, chat_id: str, turn_id: str) -> Chat:
        return self._thread.run(lambda: self._chats.show(chat_id, turn_id))

    def turns(self, chat_id: str, *, limit: int | None = None, before: str | None = None) -> TurnList:
        return self._thread.run(lambda: self._chats.turns(chat_id, limit=limit, before=before))


class _Following(_Closing):
    """Base of streams that are followed in the client's thread. The iterating thread takes the frames.

    Args:
        thread: The client's thread.
        stream: The stream that is followed.
        advice: The remedy that the error names if two loops watch at the same time.
    """

    def __init__(self, thread: LoopThread, transport: Transport, stream: FollowedStream, advice: str) -> None:
        self._thread = thread
        self._transport = transport
        self._stream = stream
        self._advice = advice
        self._following = FrameStream(transport, stream)
        self._watching = False

    @property
    def losses(self) -> int:
        """Number of connections that were lost or could not be opened."""
        return self._following.losses

    def close(self) -> None:
        """Close the connection. Turns continue on the server."""
        self._thread.call_soon(self._following.close)

    def _frames(self) -> Generator[Frame, None, None]:
        """Yield the stream's frames to its end. Raises RuntimeError if another loop watches."""
        if self._watching:
            raise RuntimeError(f"this object is being iterated already: {self._advice}")
        self._watching = True
        try:
            while not self._stream.ended and (frames := self._thread.run(self._following.step)) is not None:
                yield from frames
        finally:
            self._watching = False
            self.close()


@short_tracebacks
class Events(_Following, WatchedEvents):
    """`AsyncEvents` for code without asyncio: `for event in client.events()`."""

    def __init__(
        self, thread: LoopThread, transport: Transport, path: str, *, after: str | None = None
    ) -> None:
        WatchedEvents.__init__(self, path, after=after)
        _Following.__init__(self, thread, transport, self, ANOTHER_WATCHER)

    def __iter__(self) -> Generator[NativeEvent, None, None]:
        try:
            with closing(self._frames()) as frames:
                for frame in frames:
                    yield self.take(frame)
        except TurnstreamError as error:
            shorten(error)
            raise


@short_tracebacks
class Turn(_Following, WatchedTurn):
    """`AsyncTurn` for code without asyncio: `for event in turn`. The iterating thread folds the events."""

    def __init__(
        self, thread: LoopThread, transport: Transport, turn_id: str, *, after: str | None = None
    ) -> None:
        WatchedTurn.__init__(self, turn_id, after=after)
        _Following.__init__(self, thread, transport, self, ANOTHER_TURN_WATCHER)

    def __iter__(self) -> Generator[TurnEvent, None, None]:
        try:
            with closing(self._frames()) as frames:
                for frame in frames:
                    taken = self.take(frame)
                    yield from turn_events(taken) if taken is not None else ()
        except TurnstreamError as error:
            shorten(error)
            raise

    def wait(self) -> Self:
        """Watch the turn until its end."""
        for _ in self:
            pass
        return self

    def interrupt(self) -> Interrupted:
        """Stop the turn. Its last events still arrive."""
        request = Request("POST", f"/turns/{self.turn_id}/interrupt")
        return self._thread.run(lambda: self._transport.ask(request, Interrupted))
