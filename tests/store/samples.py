"""Values to store, and operations that wait or fail."""

from __future__ import annotations

import threading
from itertools import count
from typing import Any

from sqlalchemy import Connection, insert

from turnstream.core.blocks import Block
from turnstream.core.cursor import first_generation
from turnstream.core.identifiers import new_id
from turnstream.core.lifecycle import TurnStatus
from turnstream.core.usage import Usage
from turnstream.store.base import BlockRecord, ChatRecord, Operation, OutcomeRecord, TurnRecord
from turnstream.store.journal.operations import AppendJournal
from turnstream.store.journal.pages import LOCAL_NODE, JournalSegment
from turnstream.store.operations.chats import CreateChat
from turnstream.store.operations.content import SaveBlock
from turnstream.store.operations.deleting import DeleteChat, PurgeChat
from turnstream.store.operations.progress import FinishTurn, MarkStreaming
from turnstream.store.operations.start import StartTurns
from turnstream.store.schema import chats
from turnstream.store.sql import SqlStore

OWNER = "ada"
STRANGER = "eve"
DEADLINE = 10.0


def make_chat(owner: str = OWNER, *, updated_at: int = 1) -> ChatRecord:
    return ChatRecord(new_id(), owner, "A talk", {"project": "one"}, 1, updated_at)


def make_turn(
    chat: ChatRecord, role: str, prev: TurnRecord | None = None, *, created_at: int = 1
) -> TurnRecord:
    turn_id = new_id()
    status: TurnStatus = "complete" if role == "user" else "pending"
    generation = 0 if role == "user" else first_generation(turn_id)
    return TurnRecord(
        id=turn_id,
        chat_id=chat.id,
        owner=chat.owner,
        prev_turn_id=None if prev is None else prev.id,
        role=role,
        status=status,
        model=None if role == "user" else "sim/demo",
        created_at=created_at,
        generation=generation,
    )


def make_block(turn: TurnRecord, sequence: int, text: str = "some text", **fields: Any) -> BlockRecord:
    block = Block(sequence, "text", text, **fields)
    return BlockRecord(new_id(), turn.id, block, sequence * 10 + 1, sequence * 10 + 9, 5)


def make_segment(turn: TurnRecord, sequence: int, number: int, text: str = "piece") -> JournalSegment:
    first = sequence * 10 + 1
    content = {"tool_name": "search"} if number == 0 else None
    return JournalSegment(turn.id, sequence, number, "text", first, first + number + 1, text, content)


_pages = count(1)


def append_journal(segments: tuple[JournalSegment, ...], owner: str = LOCAL_NODE) -> AppendJournal:
    """The next page of an owner."""
    return AppendJournal(owner=owner, page=next(_pages), parts=segments)


def save(turn: TurnRecord, sequence: int, text: str = "some text") -> SaveBlock:
    return SaveBlock(turn_id=turn.id, generation=turn.generation, row=make_block(turn, sequence, text))


def finish(turn: TurnRecord, status: TurnStatus = "complete", **fields: Any) -> FinishTurn:
    operation = {name: fields.pop(name) for name in ("blocks", "model", "attempts") if name in fields}
    values: dict[str, Any] = {
        "last_seq": 99,
        "stop_reason": "end_turn" if status == "complete" else None,
        "error_code": "api_error" if status == "error" else None,
        "error_message": "the provider failed" if status == "error" else None,
        "usage": Usage(45, 234),
        "completed_at": 77,
    }
    outcome = OutcomeRecord(status=status, **(values | fields))
    return FinishTurn(turn_id=turn.id, generation=turn.generation, outcome=outcome, **operation)


async def delete_chat(store: SqlStore, chat: ChatRecord) -> list[str]:
    """Delete a chat with all its rows. Return the ids of its turns."""
    turn_ids = await store.write(DeleteChat(owner=chat.owner, chat_id=chat.id))
    while not await store.write(PurgeChat(chat_id=chat.id)):
        pass
    return turn_ids


async def stored_chat(store: SqlStore, owner: str = OWNER) -> ChatRecord:
    return await store.write(CreateChat(chat=make_chat(owner)))


async def pending_turn(store: SqlStore, chat: ChatRecord | None = None) -> TurnRecord:
    """Return an assistant turn that answers a user turn."""
    chat = chat or await stored_chat(store)
    user = make_turn(chat, "user")
    assistant = make_turn(chat, "assistant", user)
    question = (make_block(user, 0, "Why?"),)
    await store.write(
        StartTurns(owner=chat.owner, user_turn=user, assistant_turn=assistant, user_blocks=question)
    )
    return assistant


async def running_turn(store: SqlStore, chat: ChatRecord | None = None) -> TurnRecord:
    turn = await pending_turn(store, chat)
    await store.write(MarkStreaming(turn_id=turn.id, generation=turn.generation, now=2))
    return turn


class Hold(Operation[None], frozen=True, kw_only=True):
    """Holds the writer within a transaction until the test releases it."""

    entered: threading.Event
    let_go: threading.Event

    def apply(self, connection: Connection) -> None:
        self.entered.set()
        assert self.let_go.wait(DEADLINE)


class Poison(Operation[None], frozen=True, kw_only=True):
    """A write that the database refuses, with a secret that no log may contain."""

    secret: str = "what-the-user-wrote"

    def apply(self, connection: Connection) -> None:
        connection.execute(insert(chats).values(id="0" * 36, owner=None, title=self.secret))
