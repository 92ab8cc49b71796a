"""Tests with the official clients of providers. Each client has its own environment, and `make test-clients`
runs them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from turnstream.simulator.server import SimulatorServer

FOLDER = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip these tests unless the command names this folder, or something in it."""
    named = [Path(str(given).partition("::")[0]) for given in config.invocation_params.args]
    wanted = any(FOLDER in (config.invocation_params.dir / path / "x").resolve().parents for path in named)
    return None if wanted else True


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorServer]:
    async with SimulatorServer() as server:
        yield server
