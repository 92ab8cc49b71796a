"""Routes that limit request bodies, and answer each failure in the form of their protocol."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeAlias

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from turnstream.errors import (
    InvalidRequest,
    MethodNotAllowed,
    RequestTimeout,
    StoreError,
    TooLarge,
    TurnstreamError,
)
from turnstream.server.block_shapes import RIGHT_FORM
from turnstream.server.context import ServerContext
from turnstream.server.error_answers import ErrorAnswer, error_response, mask_store_error

BODY_SECONDS = 30.0
"""Seconds in which the body of a request must arrive. Large bodies have more: see `BODY_RATE`."""
BODY_RATE = 64 * 1024
"""Bytes of a body that extend its deadline by one second. An image takes minutes on a slow connection."""

_CLOSES = frozenset({408, 413})
"""Statuses after which the connection closes, because the rest of the request is not read."""

Handle: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]


def validation_error(error: RequestValidationError) -> InvalidRequest:
    """Return an error that names the first five faults and their places."""
    faults = error.errors()[:5]
    named = "; ".join(_fault(fault) for fault in faults)
    body: object = error.body
    if isinstance(body, dict) and "turn_blocks" in body and any(map(_is_unknown_field, faults)):
        named += '; parameters of the model, such as temperature, go into "params"'
    of_blocks = any(fault["loc"][:2] == ("body", "turn_blocks") for fault in faults)
    return InvalidRequest(f"{named}; write {RIGHT_FORM}" if of_blocks else named)


def _is_unknown_field(fault: Mapping[str, Any]) -> bool:
    return fault["type"] == "extra_forbidden" and len(fault["loc"]) == len(("body", "field"))


def _fault(fault: Mapping[str, Any]) -> str:
    place: tuple[str | int, ...] = fault["loc"]
    if fault["type"] == "json_invalid":
        return f"the body is not JSON: {fault['ctx']['error']} at character {place[-1]}"
    if place == ("body",):
        return "the body must be a JSON object, sent with the header Content-Type: application/json"
    return f"{'.'.join(str(part) for part in place)}: {fault['msg']}"


async def as_response(
    request: Request,
    handling: Awaitable[Response],
    answer: ErrorAnswer = error_response,
    *,
    debug: bool,
) -> Response:
    """Return the response of `handling`. Turnstream's errors and validation errors become responses too.

    Args:
        answer: Makes the response of an error.
        debug: Show the inner messages of errors.
    """
    try:
        return await handling
    except RequestValidationError as error:
        return answer(validation_error(error))
    except StoreError as error:
        return answer(mask_store_error(error, debug=debug))
    except TurnstreamError as error:
        response = answer(error)
    if response.status_code in _CLOSES and request.scope.get("http_version", "1.1") < "2":
        response.headers["Connection"] = "close"
    return response


def limited_route(
    context: ServerContext, *, authenticates_first: bool, answer: ErrorAnswer = error_response
) -> type[APIRoute]:
    """Return a route class that limits request bodies and converts errors into JSON responses.

    Args:
        authenticates_first: Authenticate before the body is read, so that an unknown caller cannot occupy
            memory. False if the host application's dependencies must run before the authentication.
        answer: Makes the response of an error.
    """

    methods: dict[str, set[str]] = {}
    """Methods of all routes by path."""

    async def limited(request: Request, handle: Handle) -> Response:
        if authenticates_first:
            await context.principal(request)
        if request.method not in ("GET", "HEAD", "DELETE"):
            await read_body(request, context)
        return await handle(request)

    class LimitedRoute(APIRoute):
        def __init__(self, path: str, *given: Any, **options: Any) -> None:
            super().__init__(path, *given, **options)
            methods.setdefault(self.path, set()).update(self.methods or ())

        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["method"] in (self.methods or ()):
                await super().handle(scope, receive, send)
                return
            allowed = ", ".join(sorted(methods[self.path]))
            refusal = answer(MethodNotAllowed(f"{scope['method']} is not possible here: use {allowed}"))
            refusal.headers["Allow"] = allowed
            await refusal(scope, receive, send)

        def get_route_handler(self) -> Handle:
            return self._answered(super().get_route_handler())

        def direct_handler(self) -> Handle | None:
            """Return a handler that calls the endpoint without the framework.

            Return None if the framework gives the endpoint more than its request, or converts its answer.
            """
            if self.dependencies or "{" in self.path or self.methods != {"POST"}:
                return None
            signature = inspect.signature(self.endpoint)
            takes_request = list(signature.parameters) == ["request"]
            is_response = signature.return_annotation in ("Response", Response)
            return self._answered(self.endpoint) if takes_request and is_response else None

        def _answered(self, handle: Handle) -> Handle:
            async def handle_answered(request: Request) -> Response:
                handling = limited(request, handle)
                return await as_response(request, handling, answer, debug=context.debug)

            return handle_answered

    return LimitedRoute


def _check_text(body: bytearray) -> None:
    """Raise InvalidRequest if the body is not UTF-8, or contains a lone surrogate, raw or as a JSON escape.

    A lone surrogate cannot be stored or sent to a provider. Python's JSON parser accepts lone surrogates, and
    bodies in UTF-16 and UTF-32.
    """
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
        raise InvalidRequest("the body has one half of a surrogate pair: leave it out") from None
    except (ValueError, RecursionError):
        return  # not JSON: the validation reports it


async def read_body(request: Request, context: ServerContext) -> bytes:
    """Read and return the body, and store it where the framework looks for it.

    Raises TooLarge if the body exceeds the limit, RequestTimeout if it does not arrive in time, Unavailable
    if too many large bodies are being read, and InvalidRequest if the body is incomplete or not UTF-8 text.
    """
    limit, budget = context.max_body_bytes, context.bodies
    too_large = TooLarge(
        f"the request body is larger than {limit} bytes: send less, or give the addresses of large files "
        "(`url`)"
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
                budget.add(len(body) - len(piece), len(body))
                if len(body) > limit:
                    raise too_large
                deadline.reschedule(began + BODY_SECONDS + len(body) / BODY_RATE)
    except ClientDisconnect:
        raise InvalidRequest("the request broke off before its body was complete: send it again") from None
    except TimeoutError:
        raise RequestTimeout(
            f"the request body did not arrive within {BODY_SECONDS:.0f} s, and a second more for each "
            f"{BODY_RATE // 1024} KiB of it: send it again, or send less"
        ) from None
    finally:
        budget.remove(len(body))
    _check_text(body)
    request._body = whole = bytes(body)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return whole
