"""The complete server of an engine: all routes, metrics, health and the page in one application."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from turnstream.server.all_routes import build_router
from turnstream.server.application import Application, Health, build_application
from turnstream.server.context import ServerContext
from turnstream.server.fast_path import DirectRoutes
from turnstream.server.metrics import EngineMetrics, scrape_metrics
from turnstream.server.openapi_additions import name_models
from turnstream.server.page.routes import add_page


def complete_application(  # noqa: PLR0913 - all that our own server adds to the routes
    context: ServerContext,
    *,
    version: str,
    prefix: str,
    protocols: Sequence[str],
    running: AbstractAsyncContextManager[object],
    metrics: EngineMetrics | None,
    keyed_metrics: bool,
    health: Health,
    cors_origins: Sequence[str],
    with_chat: bool,
) -> Application:
    """Return the complete server as an ASGI application.

    Args:
        prefix: prefix of the native routes.
        running: the engine, which is open while the application runs.
        protocols: names from `all_routes.PROTOCOLS`.
        with_chat: False to show only the plain page.
        metrics: answers `GET /metrics`. None: the route does not exist.
        keyed_metrics: True if a scraper has to send the server's key.
        version, health, cors_origins: as in `build_application`.

    Raises ConfigurationError for an unknown protocol.
    """

    @asynccontextmanager
    async def lifespan(_application: object) -> AsyncGenerator[None, None]:
        async with running:
            yield

    router = build_router(context, prefix=prefix, root="", protocols=protocols)
    scrape = None if metrics is None else partial(scrape_metrics, context, metrics, needs_key=keyed_metrics)
    application = build_application(
        router,
        version=version,
        lifespan=lifespan,
        scrape=scrape,
        health=health,
        direct=DirectRoutes(context, router, prefix),
        cors_origins=cors_origins,
        debug=context.debug,
    )
    application.complete_document = partial(name_models, context.commands)
    add_page(application, context, version, prefix, with_chat=with_chat)
    return application
