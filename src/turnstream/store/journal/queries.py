"""Reads of the journal. Each reads the pages of one owner."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import BigInteger, Connection, Executable, bindparam, cast, func, select

from turnstream.store.base import Query
from turnstream.store.journal.pages import LOCAL_NODE, JournalSegment, read_pages
from turnstream.store.queries import RUNNING, portions_of
from turnstream.store.schema import blocks, journal, turns

_LAST_PAGE = select(func.max(journal.c.page)).where(journal.c.owner == bindparam("owner"))
_PAGES = select(journal.c.segments).where(journal.c.owner == bindparam("owner")).order_by(journal.c.page)
_PAGES_WITH = _PAGES.where(journal.c.segments.contains(bindparam("turn_id")))
_LAST_SEQS = select(turns.c.id, cast(turns.c.last_seq, BigInteger).label("last_seq")).where(RUNNING)
_LAST_SEQ_OF = _LAST_SEQS.where(turns.c.id == bindparam("turn_id"))
_STORED = select(blocks.c.turn_id, blocks.c.sequence).where(
    blocks.c.turn_id.in_(bindparam("turn_ids", expanding=True))
)


class Journal(Query[list[JournalSegment]], frozen=True, kw_only=True):
    """Reads the segments of a turn's open blocks from the pages of an owner, in order.

    Blocks that are stored or retracted have no segments, and neither have turns that have ended.
    """

    turn_id: str
    owner: str = LOCAL_NODE

    def fetch(self, connection: Connection) -> list[JournalSegment]:
        found = _open_segments(
            connection, _LAST_SEQ_OF, _PAGES_WITH, {"turn_id": self.turn_id, "owner": self.owner}
        )
        return found.get(self.turn_id, [])


class Journals(Query[dict[str, list[JournalSegment]]], frozen=True, kw_only=True):
    """Reads the journals of all turns that have segments, each as `Journal` reads it."""

    owner: str = LOCAL_NODE

    def fetch(self, connection: Connection) -> dict[str, list[JournalSegment]]:
        return _open_segments(connection, _LAST_SEQS, _PAGES, {"owner": self.owner})


def _open_segments(
    connection: Connection, running: Executable, pages: Executable, where: Mapping[str, str]
) -> dict[str, list[JournalSegment]]:
    last_seqs = {row.id: row.last_seq for row in connection.execute(running, where)}
    found = read_pages((row.segments for row in connection.execute(pages, where)), last_seqs)
    stored: set[tuple[str, int]] = set()
    for ids in portions_of(list(found)):
        stored.update((row.turn_id, row.sequence) for row in connection.execute(_STORED, {"turn_ids": ids}))
    return {
        turn_id: [segment for segment in segments if (turn_id, segment.sequence) not in stored]
        for turn_id, segments in found.items()
    }


class LastPage(Query[int], frozen=True, kw_only=True):
    """Reads the number of an owner's last page. 0 if the owner has none."""

    owner: str = LOCAL_NODE

    def fetch(self, connection: Connection) -> int:
        return connection.execute(_LAST_PAGE, {"owner": self.owner}).scalar() or 0
