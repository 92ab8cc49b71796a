"""Nodes: server processes of their own that share one PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

from tests.faults.processes import RunningProcess, server
from tests.faults.server_process import ServerPlan
from turnstream.config import NodeSettings

LEASE = 2.0
"""Seconds. Long enough for a machine that is busy with other tests."""


class Cluster:
    """One database, and the plan of its nodes."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self._count = 0

    def node(self, **options: Any) -> RunningProcess:
        """A node that starts when it is entered."""
        self._count += 1
        options.setdefault("nodes", NodeSettings(lease=LEASE))
        return server(
            ServerPlan(
                database=self.url, log=self.folder / f"node{self._count}.log", log_level="info", **options
            )
        )

    async def execute(self, statement: str) -> None:
        """Execute a statement that returns no rows."""
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            await connection.execute(statement.encode())

    async def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            cursor = await connection.execute(query.encode(), values)
            return await cursor.fetchall()
