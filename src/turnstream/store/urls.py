"""The kinds of databases, by their URLs."""

from __future__ import annotations

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from turnstream.errors import ConfigurationError
from turnstream.store.database import Database
from turnstream.store.sqlite.database import SqliteDatabase


def database_of(url: str) -> Database:
    """Return the database that a URL names.

    Raises ConfigurationError if the URL is malformed or not supported, or if the driver is not installed.
    """
    parsed = _parsed(url)
    match parsed.drivername.partition("+")[0]:
        case "sqlite":
            return SqliteDatabase(parsed)
        case "postgresql" | "postgres":
            return _postgres(parsed)
        case other:
            raise ConfigurationError(
                f"{other} is not supported as a database: give sqlite:///PATH or postgresql://USER@HOST/NAME"
            )


def _postgres(url: URL) -> Database:
    try:
        from turnstream.store.postgresql.database import PostgresDatabase  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise ConfigurationError("PostgreSQL needs a driver: pip install 'turnstream[postgresql]'") from error
    return PostgresDatabase(url)


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError:
        raise ConfigurationError(
            "the database URL cannot be read: give sqlite:///PATH or postgresql://USER@HOST/NAME"
        ) from None
