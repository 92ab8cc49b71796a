"""Tests with the providers' own clients: each runs in an environment of its own, so `make test-clients` runs
them alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from turnstream.simulator.server import SimulatorServer

FOLDER = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Not a part of the plain run: only where this folder, or something in it, was named."""
    named = [Path(str(given).partition("::")[0]) for given in config.invocation_params.args]
    wanted = any(FOLDER in (config.invocation_params.dir / path / "x").resolve().parents for path in named)
    return None if wanted else True


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorServer]:
    async with SimulatorServer() as server:
        yield server
