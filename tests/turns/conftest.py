from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.turns.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path / "turns.sqlite") as world:
        yield world
