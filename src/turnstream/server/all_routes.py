"""All routes in one router, for a host application or for our own server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fastapi import APIRouter
from fastapi.params import Depends

from turnstream.errors import ConfigurationError
from turnstream.server.chats import add_chat_routes
from turnstream.server.context import ServerContext
from turnstream.server.error_answers import limited_route
from turnstream.server.protocols.ag_ui import add_ag_ui_routes
from turnstream.server.protocols.ai_sdk import add_ai_sdk_routes
from turnstream.server.turns import add_turn_routes

NATIVE = ("native",)
"""The protocols of a router by default."""


def _add_native_routes(router: APIRouter, context: ServerContext) -> None:
    add_turn_routes(router, context)
    add_chat_routes(router, context)


PROTOCOLS: Mapping[str, Callable[[APIRouter, ServerContext], None]] = {
    "native": _add_native_routes,
    "ai_sdk": add_ai_sdk_routes,
    "ag_ui": add_ag_ui_routes,
}
"""The protocols that clients may speak. Each function adds a protocol's routes to a router."""


def build_router(
    context: ServerContext,
    *,
    prefix: str,
    dependencies: Sequence[Depends] = (),
    protocols: Sequence[str] = NATIVE,
) -> APIRouter:
    """Return the routes of `protocols` under `prefix`, each guarded by `dependencies`.

    Raises ConfigurationError for an unknown protocol.
    """
    if unknown := [name for name in protocols if name not in PROTOCOLS]:
        raise ConfigurationError(f"there is no protocol {unknown[0]!r}; there are: {', '.join(PROTOCOLS)}")
    # One router holds all routes: FastAPI matches the routes of a nested router twice at each level.
    router = APIRouter(
        prefix=prefix,
        dependencies=list(dependencies),
        tags=["turnstream"],
        route_class=limited_route(context, authenticates_first=not dependencies),
    )
    for protocol in protocols:
        PROTOCOLS[protocol](router, context)
    return router
