from __future__ import annotations

from collections.abc import Iterator

import pytest

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
def postgres_proxy(postgres: PostgresServer) -> Iterator[TcpProxy]:  # noqa: F811
    """A proxy in front of the tests' PostgreSQL."""
    with TcpProxy(postgres.socket, frontend_messages) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """A server that a module's tests may stop, pause and kill."""
    with postgres_server(programs()[0]) as server:
        yield server
