"""Providers for the raw server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.providers.http.answers import KEY, PATIENT
from turnstream.config import Timeouts
from turnstream.providers.endpoints import Endpoint
from turnstream.providers.http import HttpProvider
from turnstream.wires import WIRES


@pytest.fixture
async def provide(raw_server) -> AsyncIterator[Callable[..., HttpProvider]]:
    """Builds providers for the raw server, and closes them."""
    made: list[HttpProvider] = []

    def make(timeouts: Timeouts = PATIENT, *, wire: str = "anthropic", **endpoint) -> HttpProvider:
        endpoint = {"base_url": raw_server.url, "api_key": KEY} | endpoint
        made.append(HttpProvider("test", WIRES[wire], Endpoint(**endpoint), timeouts))
        return made[-1]

    yield make
    for provider in made:
        await provider.close()
