from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.processes import ServerPlan, ServerProcess


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server in another process, which tests share. A test cannot expect to be its only client."""
    with ServerProcess(ServerPlan(tmp_path_factory.mktemp("server") / "turns.sqlite")) as process:
        yield process
