"""Failures of PostgreSQL by their kind."""

from __future__ import annotations

import re

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoFreeConnection

from turnstream.store.database import Failure

_CONFLICTS = frozenset({"40001", "40P01"})
"""A serialization failure and a deadlock: the server has rolled one of two transactions back."""
_LOCKED = "55P03"
_UNAVAILABLE = frozenset({
    "25P03",  # the process slept, and its transaction was ended
    "25P04",  # the same, by the operator's limit of a transaction
    "53300",  # too many connections
    "57P01",  # the operator ends the connection
    "57P02",  # a process of the server has crashed
    "57P03",  # the server starts, stops or recovers
    "57P05",  # the connection was not used for the operator's limit of an idle session
})  # fmt: skip
_STANDBY = "25006"
"""A write in a read-only transaction. The server is a standby now: another one was promoted."""
_CONNECTION_CLASS = "08"
_REMEDIES = (
    (r'role ".*" does not exist', "create the role with `createuser`, or name another user in the URL"),
    (r'database ".*" does not exist', "create it with `createdb`, or correct the URL"),
    ("password", "put the password into PGPASSWORD or ~/.pgpass"),
    ("connection option", "correct the parameters of the URL"),
    (
        "connection slots|too many clients",
        "raise max_connections, or put PgBouncer between the nodes and PostgreSQL",
    ),
)
"""Advice about failed connections, by a regular expression for the message."""


def connection_remedy(message: str) -> str:
    """Return what the operator can do about a failed connection.

    The driver has no codes for these failures. If the server's messages are not English, the advice is
    general.
    """
    found = (remedy for pattern, remedy in _REMEDIES if re.search(pattern, message))
    return next(found, "start PostgreSQL there, or correct the URL")


def failure_of(error: BaseException, *, is_read: bool = False) -> Failure:
    """Return the kind of a failure. A read's transaction is read-only on every server.

    A failure without a code of the server is one of the connection: the server is not there, it does not
    answer, or it has ended the connection.
    """
    if isinstance(error, NoFreeConnection):
        return "lost"
    if isinstance(error, DBAPIError):
        error = error.orig or error
    if not isinstance(error, psycopg.Error):
        return "refused"
    code = error.sqlstate
    if code is None:
        is_of_connection = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return "lost" if is_of_connection else "refused"
    if code in _CONFLICTS:
        return "conflict"
    if code == _LOCKED:
        return "locked"
    if code == _STANDBY:
        return "refused" if is_read else "lost"
    return "lost" if code in _UNAVAILABLE or code.startswith(_CONNECTION_CLASS) else "refused"
