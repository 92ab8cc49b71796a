"""PgBouncer, an ordinary process in a temporary folder, with a pool in transaction mode."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.postgresql import PostgresServer

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SESSIONS = 2
"""Sessions of the server for all clients."""
_END_SECONDS = 20
_SETTINGS = """
[databases]
* = host={server} user=postgres
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
auth_type = any
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 100
admin_users = postgres
logfile = {folder}/log
"""


@contextmanager
def pgbouncer(server: PostgresServer) -> Iterator[Path]:
    """Run PgBouncer in front of a server. Yield the folder of its socket."""
    assert PROGRAM is not None, "PgBouncer is missing: apt-get install pgbouncer"
    folder = Path(tempfile.mkdtemp(prefix="pool", dir="/tmp"))
    user = None
    if os.getuid() == 0:  # PgBouncer refuses to run for root
        user = "nobody"
        os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    settings = folder / "pgbouncer.ini"
    settings.write_text(_SETTINGS.format(server=server.folder, folder=folder, sessions=SESSIONS))
    process = subprocess.Popen([PROGRAM, "-q", settings], user=user)
    try:
        _wait_until_ready(folder, process)
        yield folder
    finally:
        process.terminate()
        process.wait(_END_SECONDS)
        shutil.rmtree(folder)


def pooled(url: str, folder: Path) -> str:
    """Return the URL of the database of `url` behind PgBouncer."""
    name = url.split("/")[3].split("?", maxsplit=1)[0]
    return f"postgresql://postgres@/{name}?host={folder}&port=6432"


def _wait_until_ready(folder: Path, process: subprocess.Popen[bytes]) -> None:
    while True:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            psycopg.connect(
                f"postgresql://postgres@/pgbouncer?host={folder}&port=6432", autocommit=True
            ).close()
        except psycopg.OperationalError:
            continue
        return
