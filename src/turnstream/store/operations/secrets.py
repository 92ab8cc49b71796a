"""The server's secrets."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select

from turnstream.store.base import Operation
from turnstream.store.database import driver_of
from turnstream.store.schema import secrets

_VALUE = select(secrets.c.value).where(secrets.c.name == bindparam("name"))


class KeepSecret(Operation[str], frozen=True, kw_only=True):
    """Stores a secret unless there is one of its name. Returns the stored one.

    `value`: the secret, at most 255 characters.
    """

    name: str
    value: str

    def apply(self, connection: Connection) -> str:
        driver_of(connection).insert(connection, secrets, [(self.name, self.value)])
        return str(connection.execute(_VALUE, {"name": self.name}).scalar_one())
