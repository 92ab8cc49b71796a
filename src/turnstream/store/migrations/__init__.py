"""Migrations of the schema, for Alembic. They are part of the package.

`bring_up_to_date` runs at every start. It imports Alembic only if the schema is old: most starts find the
newest schema, and are faster without the import.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from turnstream.errors import StoreError
from turnstream.store.database import UPGRADE, Database, OpenDatabase, describe_failure
from turnstream.store.schema import VERSION_TABLE
from turnstream.store.urls import database_of

logger = logging.getLogger(__name__)

NEWEST = max(file.stem for file in (Path(__file__).parent / "versions").glob("0*.py")).partition("_")[0]
"""Revision that this version of the package needs: that of the newest file in `versions`."""

_BUSY_TIMEOUT = 5.0
_LOCKED_SECONDS = 60.0
"""Seconds for which an upgrade is tried again while other transactions hold locks that it needs."""
_LOCKED_PAUSE = 0.5
"""Seconds between two attempts. The statements that waited behind the upgrade run meanwhile."""


def upgrade_database(url: str) -> str:
    """Upgrade the database at `url` to the newest schema. Return the new revision.

    A missing database is created. Raises ConfigurationError if the URL does not name a database, StoreLocked
    if a server writes to the database, and StoreError if the database cannot be opened or has the schema of a
    newer version.
    """
    database = database_of(url)
    database.lock()
    try:
        bring_up_to_date(database)
    finally:
        database.unlock()
    return NEWEST


def database_revision(url: str) -> str | None:
    """Return the revision of the database at `url`, or None if the database does not exist.

    Raises the same errors as `upgrade_database`.
    """
    database = database_of(url)
    if not database.exists():
        return None
    opened = database.open(_BUSY_TIMEOUT, 1, 1)
    with _connected(database.name, opened, opened.reader) as connection:
        return _current_revision(connection)


def bring_up_to_date(database: Database) -> None:
    """Upgrade the database in one transaction, like `upgrade_database`.

    Several processes may do so at once. One of them upgrades, and the others wait for it.
    """
    opened = database.open(_BUSY_TIMEOUT, 1, 1)
    until = monotonic() + _LOCKED_SECONDS
    while not _try_upgrade(database, opened, is_last=monotonic() > until):
        sleep(_LOCKED_PAUSE)


def _try_upgrade(database: Database, opened: OpenDatabase, *, is_last: bool) -> bool:
    """Upgrade the database. Return False if other transactions hold locks, unless it is the last attempt."""
    try:
        with _connected(
            database.name, opened, opened.writer.execution_options(**{UPGRADE: True})
        ) as connection:
            if _current_revision(connection) == NEWEST:
                return True
            database.lock_schema(connection)
            if _current_revision(connection) != NEWEST:  # another process may have upgraded it meanwhile
                _upgrade(connection, database.name)
    except StoreError as error:
        cause = error.__cause__
        if is_last or cause is None or opened.failure_of(cause) not in {"locked", "conflict"}:
            raise
        logger.warning("the database cannot be upgraded yet (%s), next try soon", describe_failure(cause))
        return False
    return True


@contextmanager
def _connected(name: str, opened: OpenDatabase, engine: Engine) -> Generator[Connection, None, None]:
    """Yield a connection in a transaction, then close the database. Raises StoreError if it fails."""
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        raise _unusable(name, error) from error
    finally:
        opened.close()


def _unusable(name: str, error: Exception) -> StoreError:
    why = describe_failure(error)
    remedy = "give the path of a new file, or of a database that turnstream made"
    if "locked" in why or "lock timeout" in why:
        remedy = "another program holds it; close that one and try again"
    elif "permission denied" in why:
        remedy = "make its user the owner of the database, or grant the user CREATE on the schema"
    elif "lock timeout" in why:
        remedy = "another transaction uses its tables, such as a backup; start again after its end"
    return StoreError(f"{name} cannot be used as a database ({why}): {remedy}", retryable=False)


def _current_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608


def _upgrade(connection: Connection, name: str) -> None:
    from alembic import command  # noqa: PLC0415 - takes 0.2 s, and most starts do not need it
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(
            f"{name} was made by a newer version of turnstream: upgrade the package, "
            "or give another database",
            retryable=False,
        ) from error
