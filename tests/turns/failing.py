"""Turns whose model calls fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.turns.tools.scripted import ScriptedProvider
from tests.turns.world import World
from turnstream.providers.catalog import Target
from turnstream.providers.decisions import RetryPolicy
from turnstream.tools import ToolRunner
from turnstream.tools.base import by_name

QUICK = RetryPolicy(attempts=3, delay=0.01, max_delay=0.02, budget=10.0, spacing=0.02)


@asynccontextmanager
async def world_of(
    path: Path, providers: dict[str, ScriptedProvider], *functions: Any, retry: RetryPolicy = QUICK
) -> AsyncIterator[World]:
    """A world whose models `sim/NAME` are answered by the provider of that name."""
    async with World(path / "turns.sqlite", tools=ToolRunner(by_name(functions)), retry=retry) as world:
        world.catalog.resolve = lambda name, _keys=None: Target(  # type: ignore[method-assign]
            providers[name.partition("/")[2]], name.partition("/")[2]
        )
        yield world
