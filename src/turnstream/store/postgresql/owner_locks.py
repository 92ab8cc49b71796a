"""Locks of owners, so that changes of one owner's chats are committed in the order of their times.

A watcher of an owner's chats reads the changes after the last time that it has seen. If two nodes could
commit two changes in another order than that of their times, the watcher would miss one. A transaction
takes the locks before its first statement, and PostgreSQL releases them at its end. It waits for other
transactions only while it holds nothing that they could wait for.
"""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b

from sqlalchemy import Connection

from turnstream.store.postgresql.driver import execute

MOST_OWNERS = 64
"""Owners that a transaction locks one by one. The server has room for 64 locks of each connection."""

_LOCK_ALL = "SELECT pg_advisory_xact_lock(%s::bigint)"
_LOCK_EACH = """
SELECT CASE place WHEN 1 THEN pg_advisory_xact_lock_shared(key) ELSE pg_advisory_xact_lock(key) END
FROM unnest(%s::bigint[]) WITH ORDINALITY AS locks (key, place)
"""


def lock_owners(connection: Connection, owners: Collection[str]) -> None:
    """Wait until no other transaction has locked one of these owners, and lock them until the commit."""
    if len(owners) > MOST_OWNERS:
        execute(connection, _LOCK_ALL, (_ALL,))
    else:
        # All transactions take their locks in one order, so they never wait for each other.
        execute(connection, _LOCK_EACH, ([_ALL, *sorted(map(_key, owners))],))


def _key(text: str, person: bytes = b"turnstream owner") -> int:
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=person)
    return int.from_bytes(digest.digest(), "big", signed=True)


_ALL = _key("", b"all of turnstrm")
"""Key of all owners. A transaction shares this lock, or takes it alone if it changes chats of many owners."""
