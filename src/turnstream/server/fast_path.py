"""A fast path of our own server for the request whose latency users notice.

    POST {prefix}/chats/{chat_id}/turns?stream=true

The framework accounts for a quarter of the time to the first token. This path skips it, and calls the same
function with the same authentication and limits. All other requests, and bodies that do not validate, go
through the framework, so errors are reported in one place. A host application cannot use this path: only the
framework knows its dependencies and middleware.
"""

from __future__ import annotations

import json
import re

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from turnstream.server.context import ServerContext
from turnstream.server.error_answers import as_response, read_body, unexpected_response
from turnstream.server.turns import answer_turn
from turnstream.server.views import TurnBody


class DirectTurns:
    """Answers these requests for routes at `prefix` that have no dependencies and no middleware."""

    def __init__(self, context: ServerContext, prefix: str) -> None:
        self._context = context
        self._path = re.compile(re.escape(prefix) + "/chats/([^/]+)/turns")

    def chat_of(self, scope: Scope) -> str | None:
        """Return the chat id of a request that this path answers, or None."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["query_string"] != b"stream=true":
            return None
        found = self._path.fullmatch(scope["path"])
        return found[1] if found is not None and not scope.get("root_path") else None

    async def answer(
        self, chat_id: str, otherwise: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer the request, or pass it to `otherwise` if its body does not validate."""
        request = Request(scope, receive)
        try:
            response = await as_response(request, self._answer_plain(chat_id, request))
        except _FrameworkRequest as other:
            await otherwise(scope, _once_more(other.body, receive), send)
            return
        except Exception:
            await unexpected_response()(scope, receive, send)
            raise
        await response(scope, receive, send)

    async def _answer_plain(self, chat_id: str, request: Request) -> Response:
        """Return the answer. Raises TurnstreamError, or _FrameworkRequest if the body does not validate."""
        await self._context.principal(request)
        raw = await read_body(request, self._context)
        body = _plain_body(request, raw)
        if body is None:
            raise _FrameworkRequest(raw)
        return await answer_turn(self._context, request, chat_id, body, stream=True)


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
