"""The kinds of databases, by their URLs."""

from __future__ import annotations

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from turnstream.errors import ConfigurationError
from turnstream.store.database import Database
from turnstream.store.sqlite.database import SqliteDatabase


def database_of(url: str) -> Database:
    """Return the database that a URL names.

    Raises ConfigurationError if the URL is malformed or not supported.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() != "sqlite":
        raise ConfigurationError(
            f"{parsed.get_backend_name()} is not supported as a database yet: give sqlite:///PATH"
        )
    return SqliteDatabase(parsed)


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError:
        raise ConfigurationError("the database URL cannot be read: give sqlite:///PATH") from None
