"""Routes that speak of errors in one way, wherever they are mounted: `{"error": {"code", "message"}}`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from turnstream.errors import (
    InvalidRequest,
    MethodNotAllowed,
    RequestTimeout,
    StoreError,
    TooLarge,
    TurnstreamError,
)
from turnstream.server.context import ServerContext

BODY_SECONDS = 30.0
"""Seconds in which the body of a request has to arrive, beside those that its bytes earn."""
BODY_RATE = 64 * 1024
"""Bytes of a body that earn it one more second: an image from a slow connection takes minutes."""

_CLOSES = frozenset({408, 413})
"""Statuses after which the connection closes: the rest of the request is not read."""

logger = logging.getLogger(__name__)


def error_response(error: TurnstreamError) -> JSONResponse:
    headers = {"Retry-After": "1"} if error.status == 503 else None
    body = {"error": {"code": error.code, "message": error.message}}
    return JSONResponse(body, status_code=error.status, headers=headers)


def unexpected_response() -> JSONResponse:
    """For an exception that is not ours."""
    return error_response(TurnstreamError("the server failed unexpectedly"))


def masked(error: StoreError) -> TurnstreamError:
    """What a client is told when storage fails: nothing of its inside."""
    logger.error("storage failed: %s", error)
    return TurnstreamError("the request could not be stored or read: try again", code=error.code)


def validation_error(error: RequestValidationError) -> InvalidRequest:
    """One sentence that names the place and the fault."""
    return InvalidRequest("; ".join(_fault(fault) for fault in error.errors()[:5]))


def _fault(fault: Mapping[str, Any]) -> str:
    place: tuple[str | int, ...] = fault["loc"]
    if fault["type"] == "json_invalid":
        return f"the body is not JSON: {fault['ctx']['error']} at character {place[-1]}"
    if place == ("body",):
        return "the body has to be a JSON object, sent with the header Content-Type: application/json"
    return f"{'.'.join(str(part) for part in place)}: {fault['msg']}"


async def answered(request: Request, handling: Awaitable[Response]) -> Response:
    """Return the response of handling `request`; our errors become responses too."""
    try:
        return await handling
    except RequestValidationError as error:
        return error_response(validation_error(error))
    except StoreError as error:
        return error_response(masked(error))
    except TurnstreamError as error:
        response = error_response(error)
    if response.status_code in _CLOSES and request.scope.get("http_version", "1.1") < "2":
        response.headers["Connection"] = "close"
    return response


def limited_route(context: ServerContext, *, authenticates_first: bool) -> type[APIRoute]:
    """Return a route class that bounds bodies and turns our errors into JSON.

    `authenticates_first`: authenticate before the body is read, so that an unknown caller cannot make the server hold one.
    False if the caller's own dependencies come before the authentication.
    """

    methods: dict[str, set[str]] = {}
    """Methods of all routes by their path."""

    class LimitedRoute(APIRoute):
        def __init__(self, path: str, *given: Any, **options: Any) -> None:
            super().__init__(path, *given, **options)
            methods.setdefault(self.path, set()).update(self.methods or ())

        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["method"] in (self.methods or ()):
                await super().handle(scope, receive, send)
                return
            answer = error_response(MethodNotAllowed(f"{scope['method']} is not possible here"))
            answer.headers["Allow"] = ", ".join(sorted(methods[self.path]))
            await answer(scope, receive, send)

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_limited(request: Request) -> Response:
                if authenticates_first:
                    await context.principal(request)
                if request.method not in ("GET", "HEAD", "DELETE"):
                    await read_body(request, context)
                return await handle(request)

            async def handle_answered(request: Request) -> Response:
                return await answered(request, handle_limited(request))

            return handle_answered

    return LimitedRoute


def _check_text(body: bytearray) -> None:
    """Raise InvalidRequest for a body that is not UTF-8, and for half a surrogate pair, raw or as a JSON escape: it is no
    text, and could not be stored or sent on. Python's parser would take it, and UTF-16 and UTF-32 too."""
    try:
        is_utf8 = body.isascii() or bool(body.decode())
    except UnicodeDecodeError:
        is_utf8 = False
    if not is_utf8 or not json.detect_encoding(body).startswith("utf-8"):
        raise InvalidRequest("the body is not UTF-8 text: encode the JSON as UTF-8")
    if b"\\ud" not in body and b"\\uD" not in body:
        return
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidRequest("the body holds half a surrogate pair, which is no text") from None
    except (ValueError, RecursionError):
        return  # not JSON: that is for the validation to say


async def read_body(request: Request, context: ServerContext) -> bytes:
    """Read the body, and keep it where the framework looks for it.

    Raises TooLarge, RequestTimeout, Unavailable if too many large bodies are being read, and InvalidRequest for a body that
    is not UTF-8 text or not whole.
    """
    limit, under_way = context.max_body_bytes, context.bodies
    too_large = TooLarge(
        f"the request body is larger than {limit} bytes: send less, or give the addresses of large files (`url`)"
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    began = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(BODY_SECONDS) as deadline:
            async for piece in request.stream():
                body += piece
                under_way.add(len(body) - len(piece), len(body))
                if len(body) > limit:
                    raise too_large
                deadline.reschedule(began + BODY_SECONDS + len(body) / BODY_RATE)
    except ClientDisconnect:
        raise InvalidRequest("the request broke off before its body was whole") from None
    except TimeoutError:
        raise RequestTimeout(
            f"the request body did not arrive within {BODY_SECONDS:.0f} s, and a second more for each "
            f"{BODY_RATE // 1024} KiB of it"
        ) from None
    finally:
        under_way.remove(len(body))
    _check_text(body)
    request._body = whole = bytes(body)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return whole
