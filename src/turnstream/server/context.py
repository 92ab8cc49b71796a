"""What the routes work with, and how they read what all of them read: the principal, ids, cursors."""

from __future__ import annotations

import inspect
from typing import NamedTuple

from starlette.requests import Request

from turnstream.core.cursor import Cursor, parse_cursor
from turnstream.core.identifiers import is_id
from turnstream.errors import InvalidRequest
from turnstream.server.auth import Authenticate, Principal
from turnstream.server.bodies import BodiesUnderWay
from turnstream.server.keepalive import KeepAlive
from turnstream.turns.chats import PageRequest
from turnstream.turns.commands import Commands
from turnstream.turns.watching import SubscriptionMaker

_PRINCIPAL = "turnstream.principal"
"""Key of a request's scope that holds its caller, once authenticated."""


class ServerContext(NamedTuple):
    """The engine, as the routes see it."""

    commands: Commands
    watching: SubscriptionMaker
    keep_alive: KeepAlive
    authenticate: Authenticate
    bodies: BodiesUnderWay
    max_body_bytes: int = 20 * 1024 * 1024

    async def principal(self, request: Request) -> Principal:
        """Return the caller; the hook is called once for a request. Raises Unauthorized."""
        known: Principal | None = request.scope.get(_PRINCIPAL)
        if known is None:
            answer = self.authenticate(request)
            known = request.scope[_PRINCIPAL] = await answer if inspect.isawaitable(answer) else answer
        return known


def checked_id(text: str, what: str) -> str:
    """Raises InvalidRequest unless `text` is an id."""
    if not is_id(text):
        raise InvalidRequest(f"{what} is not an id (a UUIDv7, in lower case)", code="invalid_id")
    return text


def asked_paging(before: str | None, limit: int | None) -> PageRequest:
    """Return which turns of a list a request asks for. Raises InvalidRequest unless `before` is an id."""
    return PageRequest(None if before is None else checked_id(before, "before"), limit)


def asked_cursor(request: Request) -> Cursor | None:
    """Where the client is: `Last-Event-ID` (what EventSource sends when it reconnects), else `?after=`.

    Raises InvalidRequest if one of them is text that is no cursor at all; one of another turn is a snapshot's business.
    """
    asked = _cursor(request.query_params.get("after"))
    repeated = request.headers.get("last-event-id")
    return _cursor(repeated) if repeated else asked


def _cursor(text: str | None) -> Cursor | None:
    if not text or text == "0":  # some clients begin with 0
        return None
    cursor = parse_cursor(text)
    if cursor is None:
        raise InvalidRequest(
            "the cursor is not of the form generation-seq: send an id that this stream gave",
            code="invalid_cursor",
        )
    return cursor


def asked_block(request: Request) -> int:
    """`?from_block=`: the first block the client wants. Raises InvalidRequest."""
    text = request.query_params.get("from_block", "0")
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise InvalidRequest("from_block is not a block index (0, 1, …)")
    return int(text)
