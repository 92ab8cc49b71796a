"""All routes in one router, for a host application or for our own server."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from fastapi.params import Depends

from turnstream.server.chats import add_chat_routes
from turnstream.server.context import ServerContext
from turnstream.server.error_answers import limited_route
from turnstream.server.turns import add_turn_routes


def build_router(context: ServerContext, *, prefix: str, dependencies: Sequence[Depends] = ()) -> APIRouter:
    """Return the engine's routes under `prefix`, each guarded by `dependencies`."""
    # One router holds all routes: FastAPI matches the routes of a nested router twice at each level.
    router = APIRouter(
        prefix=prefix,
        dependencies=list(dependencies),
        tags=["turnstream"],
        route_class=limited_route(context, authenticates_first=not dependencies),
    )
    add_turn_routes(router, context)
    add_chat_routes(router, context)
    return router
