"""Reads for nodes that show the turns of other nodes."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select

from turnstream.store.base import Query
from turnstream.store.schema import journal

_OF_OWNER = (
    select(journal.c.page, journal.c.segments)
    .where(journal.c.owner == bindparam("owner"))
    .order_by(journal.c.page)
)
_AFTER = _OF_OWNER.where(journal.c.page > bindparam("page")).limit(bindparam("most"))
_WITH = _OF_OWNER.where(journal.c.segments.contains(bindparam("turn_id")))


class PagesAfter(Query[list[tuple[int, str]]], frozen=True, kw_only=True):
    """Reads at most `most` pages of an owner after a page, each with its number, in order."""

    owner: str
    page: int
    most: int

    def fetch(self, connection: Connection) -> list[tuple[int, str]]:
        where = {"owner": self.owner, "page": self.page, "most": self.most}
        return [(row.page, row.segments) for row in connection.execute(_AFTER, where)]


class PagesWith(Query[list[str]], frozen=True, kw_only=True):
    """Reads the pages of an owner that name a turn, in order."""

    owner: str
    turn_id: str

    def fetch(self, connection: Connection) -> list[str]:
        where = {"owner": self.owner, "turn_id": self.turn_id}
        return [row.segments for row in connection.execute(_WITH, where)]
