"""Our own server's application: the routes, health, and errors in one shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from turnstream.errors import TurnstreamError
from turnstream.server.error_answers import error_response, unexpected_response
from turnstream.server.fast_path import DirectRoutes
from turnstream.server.openapi_additions import errors
from turnstream.server.reference import reference_page

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
Scrape = Callable[[Request], Awaitable[Response]]


class Health(Protocol):
    """A seam: what the server says about itself."""

    def health(self) -> str | None:
        """Return the reason why the server must be restarted, or None."""
        ...

    async def unready(self) -> Mapping[str, str]:
        """Return the reasons why no new requests should come here, by their codes. Empty if it is ready."""
        ...


_UNHEALTHY = "the database file was deleted or replaced"


class HealthView(BaseModel):
    status: Literal["ok"]
    version: str


class ReadyView(BaseModel):
    status: Literal["ready"]
    version: str


class UnreadyView(BaseModel):
    status: Literal["unready"]
    version: str
    reasons: dict[str, str]


class UnhealthyView(BaseModel):
    status: Literal["unhealthy"]
    version: str
    reason: str


_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
CORS_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Application(FastAPI):
    """The FastAPI application of our own server."""

    direct: DirectRoutes | None = None
    """Answers some requests without the framework, unless the application has middleware."""
    cross_origin: CORSMiddleware | None = None
    """Answers requests from web pages of other origins. Requests without an Origin header bypass it."""
    complete_document: Callable[[dict[str, Any]], None] | None = None
    """Completes the OpenAPI document with facts that are known only at run time."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None and self.complete_document is not None:
            self.complete_document(super().openapi())
        return super().openapi()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cross_origin = self.cross_origin
        if (
            cross_origin is not None
            and scope["type"] == "http"
            and any(name == b"origin" for name, _ in scope["headers"])
        ):
            await cross_origin(scope, receive, send)
        else:
            await self.serve(scope, receive, send)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        direct = self.direct
        if direct is None or self.user_middleware or (handler := direct.handler_of(scope)) is None:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        await direct.answer(handler, super().__call__, scope, receive, send)


def _is_probe(scope: Scope) -> bool:
    """Return True for requests that come every few seconds, and deserve no spans of FastAPI's."""
    return scope["path"] in _PROBES


def build_application(  # noqa: PLR0913 - all that our own server adds to the routes
    router: APIRouter,
    *,
    version: str,
    lifespan: Lifespan | None = None,
    scrape: Scrape | None = None,
    health: Health | None = None,
    direct: DirectRoutes | None = None,
    cors_origins: Sequence[str] = (),
    debug: bool = False,
) -> Application:
    """Return an ASGI application with the routes of `router`, `GET /healthz` and `GET /readyz`.

    Args:
        version: Turnstream's version, shown by `/healthz` and the OpenAPI document.
        scrape: Answers `GET /metrics`. None: the route does not exist.
        health: Tells if the server is healthy and ready. None: it always is.
        direct: Serves some routes of `router` without the framework. `router` must have no dependencies then.
        cors_origins: Origins of web pages that may read the answers.
        debug: Show clients the messages of unexpected errors.
    """
    application = Application(
        title="turnstream",
        version=version,
        description="Start a turn, watch it from anywhere, lose nothing.",
        lifespan=lifespan,
        docs_url=None,
        redirect_slashes=False,
        telemetry={"exclude": _is_probe},
    )
    application.direct = direct
    application.include_router(router)
    if cors_origins:
        application.cross_origin = CORSMiddleware(
            application.serve,
            allow_origins=cors_origins,
            allow_methods=CORS_METHODS,
            allow_headers=("*",),
            expose_headers=("Location", "Retry-After"),
            allow_private_network=True,
        )

    @application.get(
        "/healthz",
        tags=["health"],
        summary="Whether the server answers",
        response_model=HealthView,
        responses={503: {"model": UnhealthyView, "description": _UNHEALTHY}},
    )
    async def healthz() -> JSONResponse:
        if health is not None and health.health() is not None:
            unhealthy = {
                "status": "unhealthy",
                "version": version,
                "reason": f"{_UNHEALTHY}: restart the server",
            }
            return JSONResponse(unhealthy, status_code=503)
        return JSONResponse({"status": "ok", "version": version})

    @application.get(
        "/readyz",
        tags=["health"],
        summary="Whether new requests should come to this server",
        response_model=ReadyView,
        responses={503: {"model": UnreadyView, "description": "the reasons, by code"}},
    )
    async def readyz() -> JSONResponse:
        if health is not None and (reasons := await health.unready()):
            unready = {"status": "unready", "version": version, "reasons": dict(reasons)}
            return JSONResponse(unready, status_code=503)
        return JSONResponse({"status": "ready", "version": version})

    @application.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        openapi_url = f"{request.scope.get('root_path', '')}/openapi.json"
        return HTMLResponse(reference_page(application.openapi(), openapi_url=openapi_url))

    if scrape is not None:

        async def metrics(request: Request) -> Response:
            try:
                return await scrape(request)
            except TurnstreamError as error:
                return error_response(error)

        application.add_api_route(
            "/metrics",
            metrics,
            tags=["health"],
            responses={200: {"content": {"text/plain": {}}}, **errors(401)},
            summary="Metrics for Prometheus",
            response_class=Response,
        )

    async def http_error(_request: Request, error: Exception) -> JSONResponse:
        status = error.status_code if isinstance(error, HTTPException) else 500
        codes = {404: "not_found", 405: "method_not_allowed"}
        detail = str(error.detail) if isinstance(error, HTTPException) else "internal error"
        body = {"error": {"code": codes.get(status, "invalid_request"), "message": detail}}
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else None
        return JSONResponse(body, status_code=status, headers=headers)

    async def unexpected(_request: Request, error: Exception) -> JSONResponse:
        return unexpected_response(error, debug=debug)

    application.add_exception_handler(HTTPException, http_error)
    application.add_exception_handler(Exception, unexpected)
    return application
