"""Our own server's application: the routes, health, and errors in one shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from turnstream.errors import TurnstreamError
from turnstream.server.documented import errors
from turnstream.server.error_answers import error_response, unexpected_response
from turnstream.server.reference import reference_page
from turnstream.server.short_post import DirectTurns

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
Scrape = Callable[[Request], Awaitable[Response]]
Health = Callable[[], str | None]
"""Returns why the server cannot do its work, or None if it can."""


_UNHEALTHY = "the database file was deleted or replaced"


class HealthView(BaseModel):
    status: Literal["ok"]
    version: str


class UnhealthyView(BaseModel):
    status: Literal["unhealthy"]
    version: str
    reason: str


class Application(FastAPI):
    """`direct` answers what it can past the framework, unless middleware was added."""

    direct: DirectTurns | None = None
    complete_document: Callable[[dict[str, Any]], None] | None = None
    """Adds to the OpenAPI document what is known at run time only."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None and self.complete_document is not None:
            self.complete_document(super().openapi())
        return super().openapi()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        direct = self.direct
        if direct is None or self.user_middleware or (chat_id := direct.chat_of(scope)) is None:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        await direct.answer(chat_id, super().__call__, scope, receive, send)


def build_application(  # noqa: PLR0913 - what our own server has beside the routes
    router: APIRouter,
    *,
    version: str,
    lifespan: Lifespan | None = None,
    scrape: Scrape | None = None,
    health: Health | None = None,
    direct: DirectTurns | None = None,
) -> Application:
    """An ASGI application of `router` and `GET /healthz`; OpenAPI is at /docs. `scrape` answers `GET /metrics`, where
    there is one. `direct` serves routes of `router`, which then has no dependencies."""
    application = Application(
        title="turnstream",
        version=version,
        description="Start a turn, watch it from anywhere, lose nothing.",
        lifespan=lifespan,
        docs_url=None,
        redirect_slashes=False,
    )
    application.direct = direct
    application.include_router(router)

    @application.get(
        "/healthz",
        tags=["health"],
        summary="Whether the server answers",
        response_model=HealthView,
        responses={503: {"model": UnhealthyView, "description": _UNHEALTHY}},
    )
    async def healthz() -> JSONResponse:
        if health is not None and health() is not None:
            unhealthy = {
                "status": "unhealthy",
                "version": version,
                "reason": f"{_UNHEALTHY}: restart the server",
            }
            return JSONResponse(unhealthy, status_code=503)
        return JSONResponse({"status": "ok", "version": version})

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

    async def unexpected(_request: Request, _error: Exception) -> JSONResponse:
        return unexpected_response()

    application.add_exception_handler(HTTPException, http_error)
    application.add_exception_handler(Exception, unexpected)
    return application
