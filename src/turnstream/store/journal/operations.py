"""Writes of the journal."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, select

from turnstream.errors import StoreError
from turnstream.store.base import Operation
from turnstream.store.database import driver_of
from turnstream.store.journal.pages import LOCAL_NODE, JournalPart, page_of
from turnstream.store.schema import journal

_PAGE = select(journal.c.segments).where(
    journal.c.owner == bindparam("owner"), journal.c.page == bindparam("page")
)
_DELETE = delete(journal).where(journal.c.owner == bindparam("of_owner"))
_DELETE_BEFORE = _DELETE.where(journal.c.page < bindparam("before"))


class JournalPage(NamedTuple):
    """The number of a written page, and its size in characters."""

    number: int
    size: int


class AppendJournal(Operation[JournalPage], frozen=True, kw_only=True):
    """Appends a page with parts of any number of turns, all of one kind.

    `page` is its number, greater than the numbers of its owner's earlier pages. Appending the same page again
    changes nothing. Raises StoreError if another page has its number.

    The write does not look up other rows. Reads of the journal skip parts of blocks that are stored by then,
    and of turns that have ended or do not exist.
    """

    owner: str = LOCAL_NODE
    page: int
    parts: tuple[JournalPart, ...]

    def apply(self, connection: Connection) -> JournalPage:
        text = page_of(self.parts)
        row = (self.owner, self.page, text)
        if driver_of(connection).insert(connection, journal, [row]) == 0:
            stored = connection.execute(_PAGE, {"owner": self.owner, "page": self.page}).scalar_one()
            if stored != text:
                raise StoreError(f"page {self.page} of the journal exists already, with other text")
        return JournalPage(self.page, len(text))


class TrimJournal(Operation[None], frozen=True, kw_only=True):
    """Deletes an owner's pages before the page `before`, or all of them if `before` is None."""

    owner: str = LOCAL_NODE
    before: int | None

    def apply(self, connection: Connection) -> None:
        older = _DELETE if self.before is None else _DELETE_BEFORE
        connection.execute(older, {"of_owner": self.owner, "before": self.before})
