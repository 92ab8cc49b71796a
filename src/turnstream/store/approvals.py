"""Reads of approvals, and of the turns that wait for them."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, bindparam, exists, func, select

from turnstream.errors import NotFound
from turnstream.store.base import ApprovalRecord, Query
from turnstream.store.rows import approval_rows
from turnstream.store.schema import approvals, chats, turns

_OF_TURN = select(approvals).where(approvals.c.turn_id == bindparam("turn_id")).order_by(approvals.c.sequence)
_OF_OWNER = (
    select(approvals)
    .join(turns, turns.c.id == approvals.c.turn_id)
    .join(chats, chats.c.id == turns.c.chat_id)
    .where(
        approvals.c.id == bindparam("approval_id"),
        turns.c.owner == bindparam("owner"),
        chats.c.deleted_at.is_(None),
    )
)
_APPROVED = (
    select(approvals.c.id)
    .join(turns, turns.c.id == approvals.c.turn_id)
    .where(
        turns.c.chat_id == bindparam("chat_id"),
        approvals.c.tool_name == bindparam("tool_name"),
        approvals.c.approved.is_(True),
    )
    .limit(1)
)
_WAITING_OF_CHAT = select(turns.c.id).where(
    turns.c.chat_id == bindparam("chat_id"), turns.c.status == "waiting"
)
_WAITING = (
    select(turns.c.id)
    .join(chats, chats.c.id == turns.c.chat_id)
    .where(turns.c.status == "waiting", chats.c.deleted_at.is_(None))
)
_UNANSWERED = exists().where(approvals.c.turn_id == turns.c.id, approvals.c.approved.is_(None))
_ANSWERED_TURNS = _WAITING.where(~_UNANSWERED).order_by(turns.c.id).limit(bindparam("most"))
_OPEN = (
    select(approvals.c.turn_id, approvals.c.id)
    .join(turns, turns.c.id == approvals.c.turn_id)
    .join(chats, chats.c.id == turns.c.chat_id)
    .where(approvals.c.approved.is_(None), turns.c.status == "waiting", chats.c.deleted_at.is_(None))
)
_EXPIRED = (
    _OPEN.where(approvals.c.expires_at <= bindparam("now"))
    .order_by(approvals.c.expires_at)
    .limit(bindparam("most"))
)
_NEXT_EXPIRY = _OPEN.with_only_columns(func.min(approvals.c.expires_at))


class ApprovalsOfTurn(Query[list[ApprovalRecord]], frozen=True, kw_only=True):
    """Reads the approvals of a turn, answered or not, in the order of its blocks."""

    turn_id: str

    def fetch(self, connection: Connection) -> list[ApprovalRecord]:
        return [approval_rows.record(row) for row in connection.execute(_OF_TURN, {"turn_id": self.turn_id})]


class FindApproval(Query[ApprovalRecord], frozen=True, kw_only=True):
    """Reads an approval. Raises NotFound if it does not exist or belongs to another owner."""

    owner: str
    approval_id: str

    def fetch(self, connection: Connection) -> ApprovalRecord:
        row = connection.execute(_OF_OWNER, {"approval_id": self.approval_id, "owner": self.owner}).first()
        if row is None:
            raise NotFound("no such approval: the turn lists those without an answer")
        return approval_rows.record(row)


class WasApproved(Query[bool], frozen=True, kw_only=True):
    """Reads whether a call of a tool was ever approved in a chat."""

    chat_id: str
    tool_name: str

    def fetch(self, connection: Connection) -> bool:
        values = {"chat_id": self.chat_id, "tool_name": self.tool_name}
        return connection.execute(_APPROVED, values).first() is not None


class WaitingTurnsOf(Query[list[str]], frozen=True, kw_only=True):
    """Reads the ids of the waiting turns of a chat."""

    chat_id: str

    def fetch(self, connection: Connection) -> list[str]:
        return list(connection.execute(_WAITING_OF_CHAT, {"chat_id": self.chat_id}).scalars())


class DueApprovals(NamedTuple):
    """The work of the approval clock.

    Attributes:
        expired: Turn id and approval id of unanswered approvals whose time has passed.
        answered: Ids of waiting turns without unanswered approvals.
        next_expiry: Time of the next unanswered approval, in microseconds since the epoch, or None.
    """

    expired: list[tuple[str, str]]
    answered: list[str]
    next_expiry: int | None


class FindDueApprovals(Query[DueApprovals], frozen=True, kw_only=True):
    """Reads what the approval clock has to do at `now`: at most `most` approvals and as many turns."""

    now: int
    most: int

    def fetch(self, connection: Connection) -> DueApprovals:
        values = {"now": self.now, "most": self.most}
        expired = [(row.turn_id, row.id) for row in connection.execute(_EXPIRED, values)]
        answered = list(connection.execute(_ANSWERED_TURNS, values).scalars())
        return DueApprovals(expired, answered, connection.execute(_NEXT_EXPIRY).scalar())
