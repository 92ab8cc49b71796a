"""Routes of other protocols as a table: they have no place in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from fastapi import APIRouter
from starlette.responses import Response

Endpoint: TypeAlias = Callable[..., Awaitable[Response]]


def add_routes(router: APIRouter, routes: Mapping[str, Endpoint]) -> None:
    """Add the endpoints of `routes` to `router`. Their keys are a method and a path: "GET /v1/models"."""
    for address, endpoint in routes.items():
        method, _, path = address.partition(" ")
        router.add_api_route(path, endpoint, methods=[method], include_in_schema=False)
