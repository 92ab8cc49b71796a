"""The client for code without asyncio. Its event loop runs in a separate thread."""

from __future__ import annotations

from collections.abc import Generator, Mapping
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
from turnstream.client.following import FrameStream
from turnstream.client.questions import Content, QuestionOptions, SendOptions
from turnstream.client.retrying import Retry
from turnstream.client.transport import Request, Transport
from turnstream.client.turns import AsyncTurn
from turnstream.client.watched_turn import WatchedTurn, turn_events
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
    a turn.
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

    def list(self, *, limit: int = 50, before: str | None = None) -> ChatPage:
        return self._thread.run(lambda: self._chats.list(limit=limit, before=before))

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


@short_tracebacks
class Turn(_Closing, WatchedTurn):
    """`AsyncTurn` for code without asyncio: `for event in turn`. The iterating thread folds the events."""

    def __init__(
        self, thread: LoopThread, transport: Transport, turn_id: str, *, after: str | None = None
    ) -> None:
        super().__init__(turn_id, after=after)
        self._thread = thread
        self._transport = transport
        self._following = FrameStream(transport, self)
        self._watching = False

    @property
    def losses(self) -> int:
        """Number of connections that were lost or could not be opened."""
        return self._following.losses

    def close(self) -> None:
        """Close the connection. The turn continues on the server."""
        self._thread.call_soon(self._following.close)

    def __iter__(self) -> Generator[TurnEvent, None, None]:
        if self._watching:
            raise RuntimeError(
                "this turn is being iterated already: client.watch(turn_id) makes another watcher"
            )
        self._watching = True
        try:
            while not self.ended and (frames := self._thread.run(self._following.step)) is not None:
                for frame in frames:
                    taken = self.take(frame)
                    yield from turn_events(taken) if taken is not None else ()
        except TurnstreamError as error:
            shorten(error)
            raise
        finally:
            self._watching = False
            self.close()

    def wait(self) -> Self:
        """Watch the turn until its end."""
        for _ in self:
            pass
        return self

    def interrupt(self) -> Interrupted:
        """Stop the turn. Its last events still arrive."""
        request = Request("POST", f"/turns/{self.turn_id}/interrupt")
        return self._thread.run(lambda: self._transport.ask(request, Interrupted))
