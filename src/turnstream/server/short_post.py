"""A shorter way to our own server's answer for the request that people wait for.

    POST {prefix}/chats/{chat_id}/turns?stream=true

The framework's stack takes a quarter of what passes before the first token. Here the same function answers, with the same
authentication and limits. What is not plain (another query, a body that does not validate) goes the framework's way
after all: so there is one place that says what is wrong. A host's application has dependencies and middleware that
only the framework knows of, and does not use this.
"""

from __future__ import annotations

import json
import re

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turnstream.server.context import ServerContext
from turnstream.server.error_answers import answered, read_body, unexpected_response
from turnstream.server.turns import answer_turn
from turnstream.server.views import TurnBody


class DirectTurns:
    """Answers such requests for routes that are mounted at `prefix`, with nothing between them and the server."""

    def __init__(self, context: ServerContext, prefix: str) -> None:
        self._context = context
        self._path = re.compile(re.escape(prefix) + "/chats/([^/]+)/turns")

    def chat_of(self, scope: Scope) -> str | None:
        """The chat that a request is about; None for a request that is not for here."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["query_string"] != b"stream=true":
            return None
        found = self._path.fullmatch(scope["path"])
        return found[1] if found is not None and not scope.get("root_path") else None

    async def answer(
        self, chat_id: str, otherwise: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer, or let `otherwise` do so."""
        request = Request(scope, receive)
        try:
            response = await answered(request, self._answer_plain(chat_id, request))
        except _FrameworkRequest as other:
            await otherwise(scope, _once_more(other.body, receive), send)
            return
        except Exception:
            await unexpected_response()(scope, receive, send)
            raise
        await response(scope, receive, send)

    async def _answer_plain(self, chat_id: str, request: Request) -> Response:
        """Raises TurnstreamError, and _FrameworkRequest with the body that was read."""
        await self._context.principal(request)
        raw = await read_body(request, self._context)
        body = _plain_body(request, raw)
        if body is None:
            raise _FrameworkRequest(raw)
        return await answer_turn(self._context, request, chat_id, body, stream=True)


class _FrameworkRequest(Exception):
    """A request that goes the framework's way, with its body."""

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
    """A `receive` that gives a body which has been read."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
