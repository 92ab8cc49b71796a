"""The client for asyncio."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from types import TracebackType
from typing import Any, Self, Unpack
from urllib.parse import urlencode, urlsplit

import aiohttp

from turnstream.access import check_key, is_loopback
from turnstream.client.answers import (
    Chat,
    ChatPage,
    ChatPath,
    Interrupted,
    Model,
    StartedTurns,
    StoredTurn,
    TurnList,
)
from turnstream.client.questions import (
    Content,
    QuestionOptions,
    SendOptions,
    regenerate_request,
    turn_request,
)
from turnstream.client.retrying import Retry
from turnstream.client.transport import Connections, Request, Transport, api_root, path_part
from turnstream.client.turns import AsyncTurn
from turnstream.errors import InvalidRequest


class AsyncClient:
    """Speaks to one turnstream server, and does not mind when it restarts or the network goes away for a while.

    `base_url`: `http://host:port`, or where a host application has mounted the routes (`https://host/llm`).
    `api_key` is sent as a bearer token, `headers` with every request. `session`: an aiohttp session of yours, which
    stays open. Use it as an async context manager, or `close` it. Raises ConfigurationError.

    All methods raise errors of `turnstream.errors`: what the server says (InvalidRequest, Unauthorized, NotFound,
    Conflict, …), or ConnectionFailed and Unavailable once it has been away for longer than `retry.budget`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        session: aiohttp.ClientSession | None = None,
        retry: Retry | None = None,
    ) -> None:
        given = dict(headers or {})
        if api_key is not None:
            check_key(api_key, "api_key")
            given["Authorization"] = f"Bearer {api_key}"
        retry = retry or Retry()
        retry.check()
        root = api_root(base_url)
        connections = Connections(session, trust_env=not is_loopback(urlsplit(root).hostname or ""))
        self._transport = Transport(root, given, retry, connections)
        self.chats = AsyncChats(self._transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def root(self) -> str:
        """Where the server's routes are."""
        return self._transport.root

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.connections.close()

    def with_retry(self, retry: Retry) -> AsyncClient:
        """The same client with other waits; they share their connections, and are closed together."""
        retry.check()
        other = copy(self)
        other._transport = self._transport._replace(retry=retry)  # noqa: SLF001  another client, but of this class
        other.chats = AsyncChats(self._transport._replace(retry=retry))
        return other

    async def send(
        self, content: Content, *, chat_id: str | None = None, **options: Unpack[SendOptions]
    ) -> AsyncTurn:
        """Ask a model; without `chat_id` in a new chat. The answer is being written when this returns.

        A POST whose answer was lost is sent again with the same `Idempotency-Key`: no second turn is started.
        """
        if chat_id is None:
            chat_id = (await self.chats.create()).id
        return await self._start(turn_request(chat_id, content, options))

    async def regenerate(self, turn_id: str, **options: Unpack[QuestionOptions]) -> AsyncTurn:
        """Answer once more, beside the answers that are there. `turn_id`: an answer's, or the user turn's."""
        return await self._start(regenerate_request(turn_id, options))

    async def edit(self, turn_id: str, content: Content, **options: Unpack[QuestionOptions]) -> AsyncTurn:
        """Say something else in the place of a user turn: a new branch, beside the old one. Raises InvalidRequest for
        a turn that is not the user's."""
        edited = await self.read(turn_id)
        if edited.role != "user":
            raise InvalidRequest("only a user turn can be edited: `regenerate` makes another answer")
        beside: SendOptions = {**options, "prev_turn_id": edited.prev_turn_id}
        return await self._start(turn_request(edited.chat_id, content, beside))

    async def siblings(
        self, turn_id: str, *, limit: int | None = None, before: str | None = None
    ) -> TurnList:
        """A turn and its alternatives, oldest first, without their blocks; in pages as `chats.path`."""
        request = _get("turns", turn_id, "siblings", limit=limit, before=before)
        return await self._transport.ask(request, TurnList)

    async def _start(self, request: Request) -> AsyncTurn:
        started = await self._transport.ask(request, StartedTurns)
        turn = self.watch(started.assistant_turn.id)
        turn.chat_id = started.assistant_turn.chat_id
        return turn

    def watch(self, turn_id: str, *, after: str | None = None) -> AsyncTurn:
        """A turn to be iterated, from the beginning, or from after a cursor (an earlier `turn.last_id`)."""
        return AsyncTurn(self._transport, path_part(turn_id), after=after)

    async def read(self, turn_id: str) -> StoredTurn:
        """A turn with its blocks, as it is now."""
        return await self._transport.ask(_get("turns", turn_id), StoredTurn)

    async def interrupt(self, turn_id: str) -> Interrupted:
        """Stop a turn. Its true status is answered; stopping it again changes nothing."""
        return await self.watch(turn_id).interrupt()

    async def models(self) -> list[Model]:
        """The models that turns may name."""
        return await self._transport.ask(_get("models"), list[Model])


class AsyncChats:
    """`client.chats`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, title: str | None = None, metadata: Mapping[str, Any] | None = None) -> Chat:
        """Make a chat. Sent again only where it is sure that none was made."""
        body = {"title": title, "metadata": dict(metadata or {})}
        return await self._transport.ask(Request("POST", "/chats", body, repeatable=False), Chat)

    async def list(self, *, limit: int = 50, before: str | None = None) -> ChatPage:
        """A page of chats, last changed first. `before`: the `next` of the page before."""
        return await self._transport.ask(_get("chats", limit=limit, before=before), ChatPage)

    async def read(self, chat_id: str) -> Chat:
        return await self._transport.ask(_get("chats", chat_id), Chat)

    async def rename(self, chat_id: str, title: str | None) -> Chat:
        return await self._change(chat_id, title=title)

    async def delete(self, chat_id: str) -> None:
        """Delete a chat and all its turns; those at work are stopped."""
        await self._transport.ask(Request("DELETE", f"/chats/{path_part(chat_id)}"), bytes)

    async def path(
        self,
        chat_id: str,
        turn_id: str | None = None,
        *,
        limit: int | None = None,
        before: str | None = None,
    ) -> ChatPath:
        """The branch that is shown, with its blocks; with `turn_id` the one that goes through this turn.

        Args:
            limit: Turns of a page, the last ones, 1 to 200. None: all.
            before: The `previous` of a page: read the turns before it.
        """
        request = _get("chats", chat_id, "path", turn_id=turn_id, limit=limit, before=before)
        return await self._transport.ask(request, ChatPath)

    async def show(self, chat_id: str, turn_id: str) -> Chat:
        """Show the branch that goes through this turn, from now on. Raises Conflict if the turn is not one of the chat."""
        return await self._change(chat_id, active_turn_id=turn_id)

    async def turns(self, chat_id: str, *, limit: int | None = None, before: str | None = None) -> TurnList:
        """A chat's turns, oldest first, without their blocks; in pages as `path`."""
        request = _get("chats", chat_id, "turns", limit=limit, before=before)
        return await self._transport.ask(request, TurnList)

    async def _change(self, chat_id: str, **fields: str | None) -> Chat:
        return await self._transport.ask(Request("PATCH", f"/chats/{path_part(chat_id)}", fields), Chat)


def _get(*parts: str, **given: str | int | None) -> Request:
    """Return the request for a path of these parts. What is given as None is not asked for. Raises NotFound for an empty part."""
    asked = {name: value for name, value in given.items() if value is not None}
    query = f"?{urlencode(asked)}" if asked else ""
    return Request("GET", f"/{'/'.join(map(path_part, parts))}{query}")
