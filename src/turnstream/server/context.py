"""The context of the routes, and readers for the request data that they share: principal, ids, cursors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from starlette.requests import Request

from turnstream.core.cursor import Cursor, parse_cursor
from turnstream.core.identifiers import is_id
from turnstream.core.owner_events.cursor import EventsCursor, parse_events_cursor
from turnstream.dialects.relay.request import AgentPreset
from turnstream.errors import InvalidRequest
from turnstream.server.auth import Authenticate, OriginKey, Principal
from turnstream.server.bodies import BodyBudget
from turnstream.server.keepalive import KeepAlive
from turnstream.turns.chats import PageRequest
from turnstream.turns.commands import Commands
from turnstream.turns.owner_events.subscription import EventSources
from turnstream.turns.watching import SubscriptionMaker

if TYPE_CHECKING:
    from turnstream.workflow.staged_workflow import Workflow

AnyCursor = TypeVar("AnyCursor", Cursor, EventsCursor)
_PRINCIPAL = "turnstream.principal"
"""Scope key that holds the authenticated caller of a request."""


class ServerContext(NamedTuple):
    """The parts of the engine that the routes use."""

    commands: Commands
    watching: SubscriptionMaker
    events: EventSources
    keep_alive: KeepAlive
    authenticate: Authenticate
    bodies: BodyBudget
    origin_key: OriginKey
    max_body_bytes: int = 20 * 1024 * 1024
    stop_on_disconnect: Sequence[str] = ()
    """Protocols in which a client stops its turn by closing the connection."""
    presets: Mapping[str, AgentPreset] = {}
    """Agents of the relay, by their ids."""
    workflow: Callable[[], Workflow] | None = None
    """Returns the workflow of the staged agent's routes."""
    debug: bool = False
    """True to show clients the inner messages of errors."""
    on_request: Callable[[Mapping[str, str]], None] | None = None
    """Called with the headers of each request, once its caller is known. None: not called."""

    async def principal(self, request: Request) -> Principal:
        """Return the caller. The hook is called once per request. Raises Unauthorized."""
        known: Principal | None = request.scope.get(_PRINCIPAL)
        if known is None:
            answer = self.authenticate(request)
            known = request.scope[_PRINCIPAL] = await answer if inspect.isawaitable(answer) else answer
            if self.on_request is not None:
                self.on_request(request.headers)
        return known


def checked_id(text: str, what: str) -> str:
    """Return `text`. Raises InvalidRequest, in which `what` names it, unless it is an id."""
    if not is_id(text):
        raise InvalidRequest(
            f"{what} is not an id: give a UUIDv7 in lower case, as the server made it", code="invalid_id"
        )
    return text


def request_paging(before: str | None, limit: int | None) -> PageRequest:
    """Return the page that a request asks for.

    Raises InvalidRequest if `before` is given and is not an id.
    """
    return PageRequest(None if before is None else checked_id(before, "before"), limit)


def request_cursor(request: Request) -> Cursor | None:
    """Return the client's cursor: `Last-Event-ID` (sent by an EventSource that reconnects), else `?after=`.

    Raises InvalidRequest if one of them is not a cursor. A cursor of another turn passes here: the
    stream then starts from the beginning.
    """
    return _asked(request, parse_cursor, "generation-seq")


def request_events_cursor(request: Request) -> EventsCursor | None:
    """Return the cursor of a client that watches many turns. See `request_cursor`. Raises InvalidRequest."""
    return _asked(request, parse_events_cursor, "stream-moment.turn-seq…")


def _asked(request: Request, parse: Callable[[str], AnyCursor | None], form: str) -> AnyCursor | None:
    asked, repeated = request.query_params.get("after"), request.headers.get("last-event-id")
    found: list[AnyCursor | None] = []
    for text in (asked, repeated):
        is_given = text and text != "0"  # some clients start with 0
        cursor = parse(text) if text and is_given else None
        if is_given and cursor is None:
            raise InvalidRequest(
                f"the cursor is not of the form {form}: send an id that this stream gave",
                code="invalid_cursor",
            )
        found.append(cursor)
    return found[1] if repeated else found[0]


def request_block(request: Request) -> int:
    """Return `?from_block=`, the index of the first block that the client wants. Raises InvalidRequest."""
    text = request.query_params.get("from_block", "0")
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise InvalidRequest("from_block is not a block index: give 0, 1, …")
    return int(text)
