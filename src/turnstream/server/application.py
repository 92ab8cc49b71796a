"""Our own server's application: the routes, health, and errors in one shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from turnstream.errors import TurnstreamError
from turnstream.server.routing import error_response

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
Scrape = Callable[[Request], Awaitable[Response]]


def build_application(
    router: APIRouter,
    *,
    version: str,
    lifespan: Lifespan | None = None,
    scrape: Scrape | None = None,
) -> FastAPI:
    """An ASGI application of `router` and `GET /healthz`; OpenAPI is at /docs. `scrape` answers `GET /metrics`, where
    there is one."""
    application = FastAPI(
        title="turnstream",
        version=version,
        description="Start a turn, watch it from anywhere, lose nothing.",
        lifespan=lifespan,
    )
    application.include_router(router)

    @application.get("/healthz", tags=["health"], summary="Whether the server answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "version": version}

    if scrape is not None:

        async def metrics(request: Request) -> Response:
            try:
                return await scrape(request)
            except TurnstreamError as error:
                return error_response(error)

        application.add_api_route(
            "/metrics", metrics, tags=["health"], summary="Metrics for Prometheus", response_class=Response
        )

    async def http_error(_request: Request, error: Exception) -> JSONResponse:
        status = error.status_code if isinstance(error, HTTPException) else 500
        codes = {404: "not_found", 405: "method_not_allowed"}
        detail = str(error.detail) if isinstance(error, HTTPException) else "internal error"
        body = {"error": {"code": codes.get(status, "invalid_request"), "message": detail}}
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else None
        return JSONResponse(body, status_code=status, headers=headers)

    async def unexpected(_request: Request, _error: Exception) -> JSONResponse:
        return error_response(TurnstreamError("the server failed unexpectedly"))

    application.add_exception_handler(HTTPException, http_error)
    application.add_exception_handler(Exception, unexpected)
    return application
