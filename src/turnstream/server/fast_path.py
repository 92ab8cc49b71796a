"""A fast path of our own server for the requests whose latency users notice: those that start an answer.

    POST {prefix}/chats/{chat_id}/turns, with ?stream=true or without a query
    POST to an address of another protocol, if its endpoint takes nothing but the request

The framework accounts for a quarter of the time to the first token, and for more if there are many routes.
This path skips it, and calls the same functions with the same authentication and limits. All other requests,
and native bodies that do not validate, go through the framework, so errors are reported in one place. A host
application cannot use this path: only the framework knows its dependencies and middleware.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turnstream.server.context import ServerContext
from turnstream.server.error_answers import unexpected_response
from turnstream.server.requests.limited_route import Handle, as_response, read_body
from turnstream.server.turns import answer_turn
from turnstream.server.views import TurnBody

_QUERIES = {b"": False, b"stream=true": True}
"""Queries of a request for a turn, and True if the answer is the turn's event stream."""


class DirectRoutes:
    """Answers requests without the framework.

    Args:
        router: Routes without dependencies, in an application without middleware.
        prefix: Prefix of the native routes.
    """

    def __init__(self, context: ServerContext, router: APIRouter, prefix: str) -> None:
        self._context = context
        self._turns = re.compile(re.escape(prefix) + "/chats/([^/]+)/turns")
        self._handlers: dict[str, Handle] = {}
        for route in router.routes:
            find: Callable[[], Handle | None] | None = getattr(route, "direct_handler", None)
            if isinstance(route, APIRoute) and find is not None and (handler := find()) is not None:
                self._handlers.setdefault(route.path, handler)

    @property
    def paths(self) -> frozenset[str]:
        """Addresses without parameters that this path answers."""
        return frozenset(self._handlers)

    def handler_of(self, scope: Scope) -> Handle | None:
        """Return the handler of a request that this path answers, or None."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope.get("root_path"):
            return None
        if (handler := self._handlers.get(scope["path"])) is not None:
            return handler
        if (stream := _QUERIES.get(scope["query_string"])) is None:
            return None
        found = self._turns.fullmatch(scope["path"])
        return None if found is None else partial(self._answer_turn, found[1], stream=stream)

    async def answer(
        self, handler: Handle, otherwise: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer the request, or pass it to `otherwise` if its native body does not validate."""
        request = Request(scope, receive)
        try:
            response = await handler(request)
        except _FrameworkRequest as other:
            await otherwise(scope, _once_more(other.body, receive), send)
            return
        except Exception as error:
            await unexpected_response(error, debug=self._context.debug)(scope, receive, send)
            raise
        await response(scope, receive, send)

    async def _answer_turn(self, chat_id: str, request: Request, *, stream: bool) -> Response:
        answering = self._answer_plain(chat_id, request, stream=stream)
        return await as_response(request, answering, debug=self._context.debug)

    async def _answer_plain(self, chat_id: str, request: Request, *, stream: bool) -> Response:
        """Return the answer. Raises TurnstreamError, or _FrameworkRequest if the body does not validate."""
        await self._context.principal(request)
        raw = await read_body(request, self._context)
        body = _plain_body(request, raw)
        if body is None:
            raise _FrameworkRequest(raw)
        return await answer_turn(self._context, request, chat_id, body, stream=stream)


class _FrameworkRequest(Exception):
    """Raised for a request that the framework must answer. Holds the body that has been read."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body


def _plain_body(request: Request, raw: bytes) -> TurnBody | None:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return None
    try:
        return TurnBody.model_validate(json.loads(raw))
    except (ValueError, RecursionError):
        return None


def _once_more(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that first returns `body`, which has been read already."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
