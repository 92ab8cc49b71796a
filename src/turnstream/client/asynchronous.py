"""The client for asyncio."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from datetime import date
from typing import Any, Self, Unpack
from urllib.parse import urlencode, urlsplit

import aiohttp

from turnstream.access import check_key, is_loopback
from turnstream.client.answers import (
    Approval,
    Chat,
    ChatPage,
    ChatPath,
    Interrupted,
    Model,
    StartedTurns,
    StoredTurn,
    TurnList,
)
from turnstream.client.events import AsyncEvents
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
from turnstream.core.statistics.records import UsageStatistics
from turnstream.errors import InvalidRequest
from turnstream.tracebacks import short_tracebacks


@short_tracebacks
class AsyncClient:
    """The client of one turnstream server. It survives restarts of the server and short network failures.

    Use it as an async context manager, or call `close`.

    Args:
        base_url: `http://host:port`, or the URL at which a host application mounts the routes
            (`https://host/llm`).
        api_key: Sent as a bearer token. None: no token.
        headers: Sent with every request.
        session: An aiohttp session, which the client does not close. None: the client opens its own.
        retry: Delays and timeouts. None: the defaults of `Retry`.

    Raises ConfigurationError if an argument is invalid. All methods raise errors of `turnstream.errors`: the
    error in the server's answer (InvalidRequest, Unauthorized, NotFound, Conflict, …), or ConnectionFailed
    or Unavailable if the server is unavailable for longer than `retry.budget`.
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

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self.root!r})"

    @property
    def root(self) -> str:
        """URL of the server's routes."""
        return self._transport.root

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.connections.close()

    def with_retry(self, retry: Retry) -> AsyncClient:
        """Return the same client with another `Retry`. Both share their connections and close together."""
        retry.check()
        other = copy(self)
        other._transport = self._transport._replace(retry=retry)  # noqa: SLF001  same class
        other.chats = AsyncChats(self._transport._replace(retry=retry))
        return other

    async def send(
        self, content: Content, *, chat_id: str | None = None, **options: Unpack[SendOptions]
    ) -> AsyncTurn:
        """Ask a model, and return the turn of its answer, which is running.

        If the server's response is lost, the request is repeated with the same `Idempotency-Key`, so it never
        starts a second turn.

        Args:
            content: The user's message.
            chat_id: The chat of the turn. None: a new chat.
            options: See `SendOptions`.
        """
        if chat_id is None:
            chat_id = (await self.chats.create()).id
        return await self._start(turn_request(chat_id, content, options))

    async def regenerate(self, turn_id: str, **options: Unpack[QuestionOptions]) -> AsyncTurn:
        """Start another answer as a sibling of the existing ones.

        `turn_id`: id of an answer or of the user turn.
        """
        return await self._start(regenerate_request(turn_id, options))

    async def edit(self, turn_id: str, content: Content, **options: Unpack[QuestionOptions]) -> AsyncTurn:
        """Replace a user turn in a new branch, and start an answer to it. The old branch stays.

        Raises InvalidRequest if `turn_id` is not a user turn.
        """
        edited = await self.read(turn_id)
        if edited.role != "user":
            raise InvalidRequest("only a user turn can be edited: `regenerate` makes another answer")
        beside: SendOptions = {**options, "prev_turn_id": edited.prev_turn_id}
        return await self._start(turn_request(edited.chat_id, content, beside))

    async def siblings(
        self, turn_id: str, *, limit: int | None = None, before: str | None = None
    ) -> TurnList:
        """Return a turn and its alternatives, oldest first, without blocks. Pages are as in `chats.path`."""
        request = _get("turns", turn_id, "siblings", limit=limit, before=before)
        return await self._transport.ask(request, TurnList)

    async def _start(self, request: Request) -> AsyncTurn:
        started = await self._transport.ask(request, StartedTurns)
        turn = self.watch(started.assistant_turn.id)
        turn.chat_id = started.assistant_turn.chat_id
        return turn

    def watch(self, turn_id: str, *, after: str | None = None) -> AsyncTurn:
        """Return a turn, whose events the caller iterates over.

        `after`: a cursor, such as an earlier `turn.last_id`. None starts at the beginning of the turn.
        """
        return AsyncTurn(self._transport, path_part(turn_id), after=after)

    def events(self, chat_id: str | None = None, *, after: str | None = None) -> AsyncEvents:
        """Return the events of all turns over one connection. The caller iterates over them.

        Args:
            chat_id: The chat of the turns. None: all chats.
            after: A cursor, such as an earlier `events.last_id`. None starts with the running turns.
        """
        path = "/events" if chat_id is None else f"/chats/{path_part(chat_id)}/events"
        return AsyncEvents(self._transport, path, after=after)

    async def read(self, turn_id: str) -> StoredTurn:
        """Return the current state of a turn with its blocks."""
        return await self._transport.ask(_get("turns", turn_id), StoredTurn)

    async def interrupt(self, turn_id: str) -> Interrupted:
        """Stop a turn, and return its status. If the turn has already ended, it does not change."""
        return await self.watch(turn_id).interrupt()

    async def approve(
        self,
        turn_id: str,
        approval_id: str,
        approved: bool,  # noqa: FBT001 - the answer itself
        reason: str | None = None,
    ) -> Approval:
        """Approve or deny a tool call of a waiting turn, and return the approval.

        After the last answer the turn continues. The same answer may be repeated. Raises Conflict if the
        approval has another answer or has expired, or if the turn has ended.

        Args:
            reason: A text for the model and for the turn's watchers.
        """
        path = f"/turns/{path_part(turn_id)}/approvals/{path_part(approval_id)}"
        return await self._transport.ask(
            Request("POST", path, {"approved": approved, "reason": reason}), Approval
        )

    async def models(self) -> list[Model]:
        """Return the models that turns may name."""
        return await self._transport.ask(_get("models"), list[Model])

    async def statistics(
        self, first_day: str | date | None = None, last_day: str | date | None = None
    ) -> UsageStatistics:
        """Return the statistics of the caller's model calls: tokens, cost, times, errors and fallbacks.

        Args:
            first_day: First day, in UTC, as a date or as `2026-01-31`. None: 30 days in all.
            last_day: Last day, which is included. None: today.

        Raises InvalidRequest if the range has no day, or more than 366 days.
        """
        days = {"first_day": first_day, "last_day": last_day}
        given = {name: None if day is None else str(day) for name, day in days.items()}
        return await self._transport.ask(_get("stats", **given), UsageStatistics)


@short_tracebacks
class AsyncChats:
    """Operations on chats, as `client.chats`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, title: str | None = None, metadata: Mapping[str, Any] | None = None) -> Chat:
        """Create a chat. The request is repeated only if it certainly created none."""
        body = {"title": title, "metadata": dict(metadata or {})}
        return await self._transport.ask(Request("POST", "/chats", body, repeatable=False), Chat)

    async def list(
        self, *, limit: int = 50, before: str | None = None, search: str | None = None
    ) -> ChatPage:
        """Return a page of chats, last changed first.

        Args:
            limit: Number of chats in the page.
            before: The `next` of the previous page. None: the first page.
            search: Text that the chats must have, in their titles or their texts. None: all chats.
        """
        request = _get("chats", limit=limit, before=before, search=search)
        return await self._transport.ask(request, ChatPage)

    async def read(self, chat_id: str) -> Chat:
        return await self._transport.ask(_get("chats", chat_id), Chat)

    async def rename(self, chat_id: str, title: str | None) -> Chat:
        return await self._change(chat_id, title=title)

    async def delete(self, chat_id: str) -> None:
        """Delete a chat and all its turns. Running turns are stopped."""
        await self._transport.ask(Request("DELETE", f"/chats/{path_part(chat_id)}"), bytes)

    async def path(
        self,
        chat_id: str,
        turn_id: str | None = None,
        *,
        limit: int | None = None,
        before: str | None = None,
    ) -> ChatPath:
        """Return a branch of a chat with its blocks.

        Args:
            chat_id: The chat.
            turn_id: A turn of the branch. None: the branch that is shown.
            limit: Number of turns in a page, 1 to 200, counted from the end. None: all.
            before: The `previous` of a page, to read the turns before it. None: the end of the branch.
        """
        request = _get("chats", chat_id, "path", turn_id=turn_id, limit=limit, before=before)
        return await self._transport.ask(request, ChatPath)

    async def show(self, chat_id: str, turn_id: str) -> Chat:
        """Select the branch of `turn_id` as the one that is shown.

        Raises Conflict if the chat has no such turn.
        """
        return await self._change(chat_id, active_turn_id=turn_id)

    async def turns(self, chat_id: str, *, limit: int | None = None, before: str | None = None) -> TurnList:
        """Return a chat's turns, oldest first, without blocks. Pages are as in `path`."""
        request = _get("chats", chat_id, "turns", limit=limit, before=before)
        return await self._transport.ask(request, TurnList)

    async def _change(self, chat_id: str, **fields: str | None) -> Chat:
        return await self._transport.ask(Request("PATCH", f"/chats/{path_part(chat_id)}", fields), Chat)


def _get(*parts: str, **given: str | int | None) -> Request:
    """Return a GET request for a path of these parts. Query fields that are None are omitted.

    Raises NotFound if a part is empty.
    """
    asked = {name: value for name, value in given.items() if value is not None}
    query = f"?{urlencode(asked)}" if asked else ""
    return Request("GET", f"/{'/'.join(map(path_part, parts))}{query}")
