"""All routes together, for a host application or for our own."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from fastapi.params import Depends

from turnstream.server.chats import chat_routes
from turnstream.server.context import ServerContext
from turnstream.server.routing import limited_route
from turnstream.server.turns import turn_routes


def build_router(context: ServerContext, *, prefix: str, dependencies: Sequence[Depends] = ()) -> APIRouter:
    """The engine's routes under `prefix`, each guarded by `dependencies`."""
    router = APIRouter(prefix=prefix, dependencies=list(dependencies), tags=["turnstream"])
    route_class = limited_route(context.max_body_bytes)
    router.include_router(chat_routes(context, route_class))
    router.include_router(turn_routes(context, route_class))
    return router
