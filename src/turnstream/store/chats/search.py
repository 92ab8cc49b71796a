"""The search of an owner's chats.

A search reads a window of the list of chats, last changed first, by the index of that list. Then it looks for
the text in the titles of these chats, and in their text blocks. So each request has a bound, and the next
request continues after the window: a text in the oldest chat is found too.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, and_, desc, exists, or_, select, tuple_

from turnstream.store.base import ChatRecord, Query
from turnstream.store.rows import chat_rows
from turnstream.store.schema import blocks, chats, turns

WINDOW = 1000
"""Chats that one request searches."""


class FoundChats(NamedTuple):
    """Chats that have the text, the last updated first.

    Attributes:
        next: The `(updated_at, id)` after which the search continues. None if all chats were searched.
    """

    chats: list[ChatRecord]
    next: tuple[int, str] | None


class SearchChats(Query[FoundChats], frozen=True, kw_only=True):
    """Finds at most `limit` chats of an owner that have a text in the title or in a text block.

    The case of ASCII letters does not matter. There may be fewer chats than `limit`, or none, although older
    chats have the text: then `next` is not None.

    Args:
        before: The `(updated_at, id)` of a chat: only chats after it in the list are searched. None: all.
    """

    owner: str
    text: str
    limit: int
    before: tuple[int, str] | None = None

    def fetch(self, connection: Connection) -> FoundChats:
        place = tuple_(chats.c.updated_at, chats.c.id)
        newest_first = desc(chats.c.updated_at), desc(chats.c.id)
        listed = select(chats.c.updated_at, chats.c.id).where(
            chats.c.owner == self.owner, chats.c.deleted_at.is_(None)
        )
        if self.before is not None:
            listed = listed.where(place < self.before)
        window = listed.order_by(*newest_first).limit(WINDOW).subquery()
        text = self.text
        said = exists().where(
            turns.c.chat_id == chats.c.id,
            blocks.c.turn_id == turns.c.id,
            blocks.c.block_type == "text",
            blocks.c.text_content.icontains(text, autoescape=True),
        )
        matching = (
            select(chats)
            .join(window, and_(window.c.id == chats.c.id))
            .where(or_(chats.c.title.icontains(text, autoescape=True), said))
            .order_by(*newest_first)
            .limit(self.limit)
        )
        found = [chat_rows.record(row) for row in connection.execute(matching)]
        if len(found) == self.limit:
            return FoundChats(found, (found[-1].updated_at, found[-1].id))
        last = connection.execute(listed.order_by(*newest_first).offset(WINDOW - 1).limit(1)).first()
        return FoundChats(found, None if last is None else (last.updated_at, last.id))
