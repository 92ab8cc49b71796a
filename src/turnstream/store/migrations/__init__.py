"""The schema's history, as alembic migrations that are part of the package.

`bring_up_to_date` runs at every start. Alembic is imported only when there is something to do: most starts find the
newest schema, and are quicker without it.
"""

from __future__ import annotations

from pathlib import Path
from sqlite3 import Error as DriverError

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from turnstream.errors import StoreError
from turnstream.store.connections import (
    database_path,
    describe_failure,
    prepare_folder,
    reader_engine,
    writer_engine,
)
from turnstream.store.lock import WriterLock
from turnstream.store.schema import VERSION_TABLE

NEWEST = "0007"
"""The revision that this version of the package works on; a test holds it to the newest file in `versions`."""

_BUSY_TIMEOUT = 5.0


def upgrade_database(url: str) -> str:
    """Bring the database that `url` (`sqlite:///PATH`) names to the newest schema, making it when it is missing.

    Answers the revision it has then. Raises ConfigurationError for a URL that names no file, StoreLocked while a
    server writes there, and StoreError when the database cannot be opened or is of a newer version of the package.
    """
    path = database_path(url)
    prepare_folder(path)
    lock = WriterLock(path)
    lock.acquire()
    try:
        bring_up_to_date(path)
    finally:
        lock.release()
    return NEWEST


def database_revision(url: str) -> str | None:
    """The revision of the database that `url` names; None where there is none yet. Raises as `upgrade_database`."""
    path = database_path(url)
    if not path.is_file():
        return None
    engine = reader_engine(path, _BUSY_TIMEOUT, 1)
    try:
        with engine.begin() as connection:
            return _current_revision(connection)
    except (DBAPIError, DriverError) as error:
        raise _unusable(path, error) from error
    finally:
        engine.dispose()


def bring_up_to_date(path: Path) -> None:
    """As `upgrade_database`, for a caller that holds the database's lock. All of it happens, or nothing."""
    engine = writer_engine(path, _BUSY_TIMEOUT)
    try:
        with engine.begin() as connection:
            if _current_revision(connection) != NEWEST:
                _upgrade(connection, path)
    except (DBAPIError, DriverError) as error:
        raise _unusable(path, error) from error
    finally:
        engine.dispose()


def _unusable(path: Path, error: Exception) -> StoreError:
    why = describe_failure(error)
    remedy = "give the path of a new file, or of a database that turnstream made"
    if "locked" in why:
        remedy = "another program holds it; close that one and try again"
    return StoreError(f"{path} cannot be used as a database ({why}): {remedy}", retryable=False)


def _current_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a constant


def _upgrade(connection: Connection, path: Path) -> None:
    from alembic import command  # noqa: PLC0415 - takes 0.2 s, and most starts need none of it
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(
            f"{path} was made by a newer version of turnstream: upgrade the package, or give another database",
            retryable=False,
        ) from error
