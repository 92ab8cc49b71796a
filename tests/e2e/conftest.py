from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.e2e.serving import ServerPlan, ServerProcess


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all tests that do not need another; nobody may count on being alone."""
    with ServerProcess(ServerPlan(tmp_path_factory.mktemp("server") / "turns.sqlite")) as process:
        yield process
