"""A store whose writes leave records in the audit log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from turnstream.audit.records import AuditRecord
from turnstream.audit.trail import AuditTrail
from turnstream.errors import NotFound, StoreError, TurnstreamError
from turnstream.store.agent_rows import DeleteAgentConversation
from turnstream.store.base import BlockRecord, Operation, Query, Store
from turnstream.store.operations.approvals import AnswerApproval, AnsweredApproval, ExpireApproval
from turnstream.store.operations.content import RedactUserTurn
from turnstream.store.operations.deleting import DeleteBlocks, DeleteChat, DeleteTurn
from turnstream.store.operations.progress import AbandonTurn, FinishTurn, RetractBlocks, TakeOver
from turnstream.store.operations.start import StartedRecords, StartTurns
from turnstream.store.queries import GetTurn

Result = TypeVar("Result")


class AuditedStore:
    """A store that records acts in the audit log.

    A write that is an act (`ACTS`) begins only after its record is durable. Its outcome is noted after it.
    The end of a turn and a redaction (`FACTS`) are noted after they are stored: they must not be refused.

    Args:
        store: Applies the writes.
        trail: Takes the records.
    """

    def __init__(self, store: Store, trail: AuditTrail) -> None:
        self.on_change: Callable[[str], None] = lambda _owner: None
        self._store = store
        self._trail = trail
        store.on_change = self._note_change

    async def open(self) -> None:
        """Open the store. See `Store.open`."""
        await self._store.open()

    async def close(self) -> None:
        """Close the store. See `Store.close`."""
        await self._store.close()

    async def read(self, query: Query[Result], *, seconds: float | None = None) -> Result:
        """Return the query's answer. See `Store.read`."""
        return await self._store.read(query, seconds=seconds)

    async def write(self, operation: Operation[Result]) -> Result:
        """Apply the operation. See `Store.write`.

        Raises Unavailable (`audit_unavailable`) if it is an act that cannot be recorded.
        """
        kind = type(operation)
        if (act := ACTS.get(kind)) is not None:
            return await self._act(act(operation), operation)
        result = await self._store.write(operation)
        has_happened = result is False  # another write of the turn's end was first
        if not has_happened and (fact := FACTS.get(kind)) is not None:
            self._trail.note(await self._of_turn(fact(operation)))
        return result

    async def _act(self, record: AuditRecord, operation: Operation[Result]) -> Result:
        await self._trail.require(msgspec.structs.replace(record, outcome="begun"))
        outcome = "unknown"  # a cancelled caller does not undo the write
        try:
            result = await self._store.write(operation)
            outcome = _outcome_of(result)
            return result
        except TurnstreamError as error:
            outcome = error.code
            raise
        finally:
            self._trail.note(msgspec.structs.replace(record, outcome=outcome))

    async def _of_turn(self, record: AuditRecord) -> AuditRecord:
        """Return the record with the owner and the chat of its turn, unless the turn cannot be read."""
        try:
            turn = await self._store.read(GetTurn(owner=None, turn_id=record.turn or ""))
        except (NotFound, StoreError):
            return record
        return msgspec.structs.replace(record, owner=turn.owner, chat=turn.chat_id)

    def _note_change(self, owner: str) -> None:
        self.on_change(owner)


def _outcome_of(result: object) -> str:
    if isinstance(result, StartedRecords) and result.replayed:
        return "replayed"
    if isinstance(result, AnsweredApproval) and result.event is None:
        return "repeated"
    return "done"


def _start(operation: StartTurns) -> AuditRecord:
    turn = operation.assistant_turn
    return AuditRecord(
        act="turn.start",
        owner=operation.owner,
        chat=turn.chat_id,
        turn=turn.id,
        decision="allowed",
        details={
            "model": turn.asked_model or turn.model or "",
            "user_turn": "" if operation.user_turn is None else operation.user_turn.id,
            "blocks": len(operation.user_blocks),
            "characters": _characters(operation.user_blocks),
            "tools": len(turn.tools or ()),
            **(
                {"alternatives": [other.id for other in operation.alternatives]}
                if operation.alternatives
                else {}
            ),
        },
    )


def _answer(operation: AnswerApproval) -> AuditRecord:
    expired = isinstance(operation, ExpireApproval)
    decision = "expired" if expired else "approved" if operation.approved else "denied"
    details: dict[str, Any] = {"approval": operation.approval_id}
    if operation.reason is not None and not expired:
        details["reason_characters"] = len(operation.reason)
    return AuditRecord(
        act="approval.answer",
        owner=operation.owner,
        turn=operation.turn_id,
        decision=decision,
        details=details,
    )


def _delete_chat(operation: DeleteChat) -> AuditRecord:
    return AuditRecord(act="chat.delete", owner=operation.owner, chat=operation.chat_id, decision="allowed")


def _delete_turn(operation: DeleteTurn) -> AuditRecord:
    return AuditRecord(act="turn.delete", owner=operation.owner, turn=operation.turn_id, decision="allowed")


def _delete_blocks(operation: DeleteBlocks) -> AuditRecord:
    return AuditRecord(
        act="blocks.delete",
        owner=operation.owner,
        turn=operation.turn_id,
        decision="allowed",
        details={"sequences": list(operation.sequences)},
    )


def _delete_conversation(operation: DeleteAgentConversation) -> AuditRecord:
    return AuditRecord(
        act="conversation.delete",
        owner=operation.owner,
        decision="allowed",
        details={"conversation": operation.number},
    )


def _end(operation: FinishTurn | TakeOver) -> AuditRecord:
    outcome = operation.outcome
    details: dict[str, Any] = {
        "input_tokens": outcome.usage.input_tokens,
        "output_tokens": outcome.usage.output_tokens,
        "characters": _characters(operation.blocks),
    }
    if outcome.cost is not None:
        details["cost"] = outcome.cost
    return AuditRecord(
        act="turn.end",
        turn=operation.turn_id,
        outcome=outcome.error_code or outcome.status,
        details={name: value for name, value in details.items() if value is not None},
    )


def _abandon(operation: AbandonTurn) -> AuditRecord:
    return AuditRecord(act="turn.end", turn=operation.turn_id, outcome=operation.error_code or "error")


def _redact(operation: RedactUserTurn) -> AuditRecord:
    return AuditRecord(
        act="content.redacted",
        turn=operation.turn_id,
        outcome="done",
        details={"of": "user", "user_turn": operation.asked_turn_id},
    )


def _retract(operation: RetractBlocks) -> AuditRecord:
    return AuditRecord(
        act="content.retracted",
        turn=operation.turn_id,
        outcome="done",
        details={"of": "assistant", "from_block": operation.index},
    )


def _characters(rows: Sequence[BlockRecord]) -> int:
    return sum(len(row.block.text_content or "") for row in rows)


ACTS: Mapping[type[Operation[Any]], Callable[[Any], AuditRecord]] = {
    StartTurns: _start,
    AnswerApproval: _answer,
    ExpireApproval: _answer,
    DeleteChat: _delete_chat,
    DeleteTurn: _delete_turn,
    DeleteBlocks: _delete_blocks,
    DeleteAgentConversation: _delete_conversation,
}
"""Writes that must not happen without a record, and the functions that make it."""
FACTS: Mapping[type[Operation[Any]], Callable[[Any], AuditRecord]] = {
    FinishTurn: _end,
    TakeOver: _end,
    AbandonTurn: _abandon,
    RedactUserTurn: _redact,
    RetractBlocks: _retract,
}
"""Writes that are recorded after they have happened, and the functions that make the record."""
