"""The route of statistics."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import APIRouter
from pydantic import WithJsonSchema
from starlette.requests import Request

from turnstream.core.statistics.day_range import DAY_PATTERN
from turnstream.server.context import ServerContext
from turnstream.server.openapi_additions import errors
from turnstream.server.statistics.views import StatisticsView

_OptionalDay: TypeAlias = Annotated[
    str | None, WithJsonSchema({"type": "string", "format": "date", "pattern": DAY_PATTERN})
]


def add_statistics_routes(router: APIRouter, context: ServerContext) -> None:
    @router.get(
        "/stats",
        responses=errors(400, 401, 503),
        summary="Read tokens, cost, times, errors and fallbacks by model and day",
    )
    async def read_statistics(
        request: Request, first_day: _OptionalDay = None, last_day: _OptionalDay = None
    ) -> StatisticsView:
        owner = (await context.principal(request)).owner
        return StatisticsView.of(await context.commands.chats.statistics(owner, first_day, last_day))
