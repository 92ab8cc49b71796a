"""Reads of an owner's announcements: what happened to the chats and turns of an owner, in order.

There is no table of announcements. Each change of a chat has a moment that is later than all earlier moments
of its owner, so the rows themselves are the log: chats by `created_at` and `updated_at`, turns by
`created_at`. Several changes of one chat are one announcement, with the last moment. A deleted chat's row
stays for `KEPT_SECONDS`.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy import Connection, Row, Select, bindparam, func, select

from turnstream.core.usage import LAST_MOMENT
from turnstream.store.base import Query
from turnstream.store.expressions import DatabaseTime
from turnstream.store.queries import RUNNING, portions_of
from turnstream.store.schema import chats, turns

KEPT_SECONDS = 24 * 3600
"""Seconds that the row of a deleted chat stays, so that watchers that come back get the deletion."""


class Scope(NamedTuple):
    """The chats that a watcher watches: all chats of an owner, or one chat."""

    owner: str
    chat_id: str | None = None


class ChatAnnouncement(msgspec.Struct, frozen=True, gc=False):
    """A change of a chat, and the chat as it is now."""

    moment: int
    kind: Literal["created", "changed", "deleted"]
    chat_id: str
    title: str | None
    created_at: int
    updated_at: int
    active_turn_id: str | None


class TurnAnnouncement(msgspec.Struct, frozen=True, gc=False):
    """The start of a turn at `moment`."""

    moment: int
    turn_id: str
    chat_id: str
    user_turn_id: str | None
    model: str | None


class AnnouncementPage(NamedTuple):
    """Announcements in order.

    Attributes:
        items: A chat's change comes before a turn's start of the same moment.
        more: True if there are later ones.
    """

    items: tuple[ChatAnnouncement | TurnAnnouncement, ...]
    more: bool = False


class StreamStart(NamedTuple):
    """The state of the chats now.

    Attributes:
        moment: The moment of the last change.
        is_new: True if the watcher cannot resume: it has no moment, or a deletion after it may be forgotten.
        running: The first running turns, oldest first.
    """

    moment: int
    is_new: bool
    running: tuple[TurnAnnouncement, ...]


_LATEST_OF = (
    select(chats.c.owner, func.max(chats.c.updated_at).label("moment"))
    .where(chats.c.owner.in_(bindparam("owners", expanding=True)), chats.c.updated_at < LAST_MOMENT)
    .group_by(chats.c.owner)
)
_CHAT_COLUMNS = ("id", "title", "created_at", "updated_at", "active_turn_id", "deleted_at")


def _of(scope: Scope) -> Select[*tuple[Any, ...]]:
    """Return a select of a scope's chats, deleted ones included."""
    columns = (getattr(chats.c, name) for name in _CHAT_COLUMNS)
    statement = select(*columns).where(chats.c.owner == scope.owner, chats.c.updated_at < LAST_MOMENT)
    return statement if scope.chat_id is None else statement.where(chats.c.id == scope.chat_id)


_TURN_COLUMNS = (
    turns.c.created_at,
    turns.c.id,
    turns.c.chat_id,
    turns.c.prev_turn_id,
    func.coalesce(turns.c.asked_model, turns.c.model).label("named_model"),
)


def _turns_of(scope: Scope) -> Select[*tuple[Any, ...]]:
    """Return a select of the turns of a scope's chats, without users' turns and imported turns."""
    statement = (
        _of(scope).where(chats.c.deleted_at.is_(None)).join(turns, turns.c.chat_id == chats.c.id)
    ).with_only_columns(*_TURN_COLUMNS)
    return statement.where(turns.c.role != "user", turns.c.imported.is_(False))


class AnnouncementsAfter(Query[AnnouncementPage], frozen=True, kw_only=True):
    """Reads the next announcements after `moment`, at most `limit` of each kind."""

    scope: Scope
    moment: int
    limit: int

    def fetch(self, connection: Connection) -> AnnouncementPage:
        limit, moment = self.limit, self.moment
        recent = _of(self.scope).where(chats.c.updated_at > moment)
        queries = (
            recent.order_by(chats.c.updated_at),
            recent.where(chats.c.created_at > moment, chats.c.deleted_at.is_(None)).order_by(
                chats.c.created_at
            ),
            _turns_of(self.scope)
            .where(chats.c.updated_at > moment, turns.c.created_at > moment)
            .order_by(turns.c.created_at),
        )
        changed, created, begun = (list(connection.execute(query.limit(limit + 1))) for query in queries)
        announcements = [
            *(_chat_announcement(row, "created", row.created_at) for row in created),
            *(_change(row) for row in changed if row.updated_at != row.created_at or row.deleted_at),
            *(_turn_announcement(row) for row in begun),
        ]
        # A full list ends the page at its last moment, because the other lists may reach further.
        ends = [
            last
            for rows, last in (
                (changed, changed[-1].updated_at if changed else 0),
                (created, created[-1].created_at if created else 0),
                (begun, begun[-1].created_at if begun else 0),
            )
            if len(rows) > limit
        ]
        end = min(ends, default=LAST_MOMENT)
        announcements.sort(key=lambda item: (item.moment, isinstance(item, TurnAnnouncement)))
        complete = tuple(item for item in announcements if item.moment < end)
        return AnnouncementPage(complete, more=bool(ends))


class LatestMoments(Query[dict[str, int]], frozen=True, kw_only=True):
    """Reads the moment of the last change of each owner's chats. Owners without chats are left out."""

    owners: tuple[str, ...]

    def fetch(self, connection: Connection) -> dict[str, int]:
        latest: dict[str, int] = {}
        for owners in portions_of(self.owners):
            rows = connection.execute(_LATEST_OF, {"owners": owners})
            latest.update((row.owner, row.moment) for row in rows)
        return latest


class StartOfEvents(Query[StreamStart], frozen=True, kw_only=True):
    """Reads the state that a watcher starts from. `after`: the moment of its cursor. None or 0: it begins."""

    scope: Scope
    after: int | None
    limit: int

    def fetch(self, connection: Connection) -> StreamStart:
        newest = _of(self.scope).with_only_columns(func.max(chats.c.updated_at))
        moment = connection.execute(newest).scalar() or 0
        now = connection.execute(select(DatabaseTime())).scalar_one()
        after = self.after
        oldest = now - KEPT_SECONDS * 1_000_000
        is_known = after is not None and after > 0 and (after == moment or oldest <= after < moment)
        if is_known:
            return StreamStart(moment, is_new=False, running=())
        running = _turns_of(self.scope).where(RUNNING).order_by(turns.c.created_at).limit(self.limit + 1)
        found = [_turn_announcement(row) for row in connection.execute(running)]
        if len(found) > self.limit:  # the others are announced as turns that begin
            found.pop()
            moment = found[-1].moment
        return StreamStart(moment, is_new=True, running=tuple(found))


class TurnsAt(Query[dict[int, TurnAnnouncement]], frozen=True, kw_only=True):
    """Reads the turns that began at the given moments, by moment. Turns that are gone are left out."""

    scope: Scope
    moments: tuple[int, ...]

    def fetch(self, connection: Connection) -> dict[int, TurnAnnouncement]:
        found = _turns_of(self.scope).where(
            chats.c.updated_at >= min(self.moments), turns.c.created_at.in_(self.moments)
        )
        return {row.created_at: _turn_announcement(row) for row in connection.execute(found)}


def _change(row: Row[Any]) -> ChatAnnouncement:
    return _chat_announcement(row, "changed" if row.deleted_at is None else "deleted", row.updated_at)


def _chat_announcement(
    row: Row[Any], kind: Literal["created", "changed", "deleted"], moment: int
) -> ChatAnnouncement:
    return ChatAnnouncement(
        moment, kind, row.id, row.title, row.created_at, row.updated_at, row.active_turn_id
    )


def _turn_announcement(row: Row[Any]) -> TurnAnnouncement:
    return TurnAnnouncement(row.created_at, row.id, row.chat_id, row.prev_turn_id, row.named_model)
