"""Writes of turns that wait for approvals: begin to wait, answer, continue."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import msgspec
from sqlalchemy import Connection, Row, bindparam, func, select, update

from turnstream.core.blocks import Content
from turnstream.core.cursor import next_generation_seq
from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.core.tool_input import input_digest
from turnstream.core.turn_events import ApprovalResponse
from turnstream.errors import Conflict, Fenced, NotFound
from turnstream.store.base import Annotation, ApprovalRecord, Operation, TurnRecord
from turnstream.store.database import driver_of
from turnstream.store.operations.fencing import lock_turn, refusal, turn_states
from turnstream.store.operations.progress import MarkStreaming, SaveStep
from turnstream.store.queries import last_seq_of
from turnstream.store.rows import approval_rows, turn_rows
from turnstream.store.schema import annotations, approvals, blocks, chats, turns
from turnstream.store.settings import read_turns

EXPIRED = "the approval expired: there was no answer in time"
"""Reason of an approval that was not answered before its deadline."""

_AT = update(turns).where(
    turns.c.id == bindparam("at_id"),
    turns.c.generation == bindparam("at_generation"),
    turns.c.status.in_(bindparam("at_statuses", expanding=True)),
)
_WAIT = _AT.values(status="waiting", node=None)
_CONTINUE = _AT.values(status="streaming", node=bindparam("by_node"))
_TURN = select(turns).where(turns.c.id == bindparam("turn_id"))
_APPROVAL = (
    select(approvals, turns.c.owner, turns.c.status)
    .join(turns, turns.c.id == approvals.c.turn_id)
    .join(chats, chats.c.id == turns.c.chat_id)
    .where(
        approvals.c.id == bindparam("approval_id"),
        approvals.c.turn_id == bindparam("turn_id"),
        chats.c.deleted_at.is_(None),
    )
)
_ANSWER = update(approvals).where(approvals.c.id == bindparam("at_id"))
_SEQ_OF = select(annotations.c.seq).where(
    annotations.c.turn_id == bindparam("turn_id"), annotations.c.event == bindparam("event")
)
_UNANSWERED = select(func.count()).where(
    approvals.c.turn_id == bindparam("turn_id"), approvals.c.approved.is_(None)
)
_CONTENT = select(blocks.c.content).where(
    blocks.c.turn_id == bindparam("turn_id"), blocks.c.sequence == bindparam("sequence")
)


class StartWaiting(Operation[None], frozen=True, kw_only=True):
    """Sets a turn to waiting, with its approvals and their events, in one transaction. Raises Fenced.

    Applying it again changes nothing.

    Args:
        account: The account of the turn's ended calls.
        now: Microseconds since the epoch.
    """

    generation: int
    approvals: tuple[ApprovalRecord, ...]
    events: tuple[Annotation, ...]
    account: SaveStep
    now: int

    def apply(self, connection: Connection) -> None:
        # The turn may still be pending, because its change to streaming is not repeated if storage fails.
        MarkStreaming(turn_id=self.turn_id, generation=self.generation, now=self.now).apply(connection)
        where = {"at_id": self.turn_id, "at_generation": self.generation, "at_statuses": ["streaming"]}
        connection.execute(_WAIT, where)
        driver = driver_of(connection)
        driver.insert(connection, approvals, [approval_rows.row(approval) for approval in self.approvals])
        rows = [(self.turn_id, row.seq, row.event.decode("utf-8", "replace")) for row in self.events]
        driver.insert(connection, annotations, rows)
        self.account.apply(connection)


class AnsweredApproval(NamedTuple):
    """An approval with its answer.

    Attributes:
        event: The event that shows the answer, and its seq. None if another write has stored the answer.
        unanswered: Number of the turn's approvals without an answer.
    """

    approval: ApprovalRecord
    event: tuple[int, ApprovalResponse] | None
    unanswered: int


class AnswerApproval(Operation[AnsweredApproval], frozen=True, kw_only=True):
    """Stores the answer to an approval, and the event that shows it. The same answer may be repeated.

    Raises NotFound if the owner has no such approval. Raises Conflict `approval_decided` if it has another
    answer, `approval_expired` after its time, `turn_ended`, and `input_changed` if the arguments of the
    stored call are not those that were shown.

    Args:
        owner: Owner of the turn. None: any owner.
        now: Microseconds since the epoch.
    """

    owner: str | None
    approval_id: str
    approved: bool
    reason: str | None
    now: int

    def apply(self, connection: Connection) -> AnsweredApproval:
        # Another node may answer this approval, or another one of the turn, at the same time.
        lock_turn(connection, self.turn_id)
        where = {"approval_id": self.approval_id, "turn_id": self.turn_id}
        row = connection.execute(_APPROVAL, where).first()
        if row is None or self.owner not in {None, row.owner}:
            raise NotFound("no such approval: the turn lists those without an answer")
        approval = approval_rows.record(row)
        if approval.approved is None:
            approval = self._answered(connection, approval, row.status)
            event = (last_seq_of(connection, self.turn_id) + 1, _event_of(approval))
            self._store(connection, approval, *event)
        elif (approval.approved, approval.reason) == (self.approved, self.reason):
            event = self._event_of_this(connection, approval)
        else:
            raise Conflict(
                "this approval has another answer already: load the turn to see it", code="approval_decided"
            )
        unanswered = connection.execute(_UNANSWERED, {"turn_id": self.turn_id}).scalar()
        return AnsweredApproval(approval, event, unanswered or 0)

    def _event_of_this(
        self, connection: Connection, approval: ApprovalRecord
    ) -> tuple[int, ApprovalResponse] | None:
        """Return the event of a stored answer if this write has stored it: its own answer was lost."""
        if approval.decided_at != self.now:
            return None
        event = _event_of(approval)
        where = {"turn_id": self.turn_id, "event": msgspec.json.encode(event).decode()}
        seq = connection.execute(_SEQ_OF, where).scalar()
        return None if seq is None else (seq, event)

    def _answered(self, connection: Connection, approval: ApprovalRecord, status: str) -> ApprovalRecord:
        """Return the approval with the answer. Raises Conflict if it may not be answered."""
        if status in TERMINAL_STATUSES:
            raise Conflict("the turn has ended, and its calls are cancelled: ask again", code="turn_ended")
        if approval.expires_at <= self.now:
            raise Conflict(EXPIRED, code="approval_expired")
        if self.approved and _stored_digest(connection, approval) != approval.input_digest:
            raise Conflict(
                "the stored call has other arguments than those shown: load the turn again",
                code="input_changed",
            )
        return msgspec.structs.replace(
            approval, approved=self.approved, reason=self.reason, decided_at=self.now
        )

    def _store(
        self, connection: Connection, approval: ApprovalRecord, seq: int, event: ApprovalResponse
    ) -> None:
        values = {name: getattr(approval, name) for name in ("approved", "reason", "decided_at")}
        connection.execute(_ANSWER.values(values), {"at_id": approval.id})
        row = (self.turn_id, seq, msgspec.json.encode(event).decode())
        driver_of(connection).insert(connection, annotations, [row])


class ExpireApproval(AnswerApproval, frozen=True, kw_only=True):
    """Stores that an approval has expired: it is denied. Changes nothing if it has an answer.

    Raises NotFound, and Conflict `turn_ended`.
    """

    owner: str | None = None
    approved: bool = False
    reason: str | None = EXPIRED

    def _answered(self, connection: Connection, approval: ApprovalRecord, status: str) -> ApprovalRecord:
        del connection
        if status in TERMINAL_STATUSES:
            raise Conflict("the turn has ended: ask again", code="turn_ended")
        return msgspec.structs.replace(approval, approved=False, reason=self.reason, decided_at=self.now)


class ContinueTurn(Operation[TurnRecord], frozen=True, kw_only=True):
    """Gives a waiting turn a new generation, and sets it to streaming. Returns its row.

    The row's last seq is the one before the first event of the new generation. The last seq of the old
    generation becomes its fence: nothing is lost. Applying it again changes nothing. Raises Fenced if the
    turn does not wait in `expected_generation`, and TurnGone if it does not exist.

    Attributes:
        node: Id of the node that continues the turn.
    """

    expected_generation: int
    node: str | None = None

    def apply(self, connection: Connection) -> TurnRecord:
        lock_turn(connection, self.turn_id)  # an answer on another node has its event before the fence
        last_seq = last_seq_of(connection, self.turn_id)
        row = connection.execute(_TURN, {"turn_id": self.turn_id}).first()
        fences = () if row is None else turn_rows.read("fences", row.fences, self.turn_id)
        where: dict[str, Any] = {
            "at_id": self.turn_id,
            "at_generation": self.expected_generation,
            "at_statuses": ["waiting"],
            "by_node": self.node,
        }
        values = {
            "generation": self.expected_generation + 1,
            "fences": [*fences, (self.expected_generation, last_seq)],
            "last_seq": next_generation_seq(last_seq),
        }
        if connection.execute(_CONTINUE.values(values), where).rowcount == 0 and not self._was_applied(row):
            state = turn_states(connection, [self.turn_id]).get(self.turn_id)
            raise refusal(state, self.expected_generation) or Fenced("the turn does not wait")
        (turn,) = read_turns(connection, [connection.execute(_TURN, {"turn_id": self.turn_id}).one()])
        return turn

    def _was_applied(self, row: Row[Any] | None) -> bool:
        """Return True if this write was applied before. It is repeated because its answer was lost."""
        continued = (self.expected_generation + 1, self.node, "streaming")
        return (
            self.node is not None and row is not None and (row.generation, row.node, row.status) == continued
        )


def _event_of(approval: ApprovalRecord) -> ApprovalResponse:
    return ApprovalResponse(approval.id, approval.tool_use_id, bool(approval.approved), approval.reason)


def _stored_digest(connection: Connection, approval: ApprovalRecord) -> str | None:
    values = {"turn_id": approval.turn_id, "sequence": approval.sequence}
    content: Any = connection.execute(_CONTENT, values).scalar()
    return input_digest(cast("Content", content).get("input")) if isinstance(content, dict) else None
