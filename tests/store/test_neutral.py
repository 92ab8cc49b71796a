"""Operations and queries hold no SQL of one database, and each write may be repeated."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql import ClauseElement, Executable

import turnstream.store
from tests.store.reads import ListTurns
from tests.store.samples import OWNER, append_journal, finish, make_block, make_chat, make_segment, make_turn
from turnstream.core.usage import CallAttempt, StepUsage, Usage
from turnstream.errors import NotFound
from turnstream.store.base import SET_BY_STORE, Annotation
from turnstream.store.journal.operations import TrimJournal
from turnstream.store.journal.queries import Journals, LastPage
from turnstream.store.operations.chats import CreateChat
from turnstream.store.operations.content import SaveAnnotations, SaveBlock
from turnstream.store.operations.deleting import DeleteChat, PurgeChat
from turnstream.store.operations.progress import MarkStreaming, RetractBlocks, SaveStep
from turnstream.store.operations.start import StartTurns
from turnstream.store.queries import AllBlocks, AttemptsOfTurn, GetTurn, ListChats
from turnstream.store.sql import SqlStore

STORE = Path(turnstream.store.__file__).parent
OWN = ("sqlite", "postgresql", "migrations")
WORDS = ("pragma", "begin immediate", "lastrowid", "insert or ", "(?", "= ?", "wal_", "julianday")


def neutral_modules() -> list[str]:
    found = [module.name for module in pkgutil.walk_packages([str(STORE)], "turnstream.store.")]
    return [name for name in found if name.split(".")[2] not in OWN]


@pytest.mark.parametrize("name", neutral_modules())
def test_no_module_outside_its_folder_speaks_sqlite(name: str):
    source = Path(importlib.import_module(name).__file__ or "")
    tree = ast.parse(source.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            imported = (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [n.name for n in node.names]
            )
            assert name.endswith(".urls") or not any("sqlite" in module for module in imported)
        elif isinstance(node, ast.Attribute):
            assert node.attr not in {"lastrowid", "exec_driver_sql"}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not [word for word in WORDS if word in node.value.lower()], node.value


@pytest.mark.parametrize("name", neutral_modules())
def test_each_statement_compiles_for_postgresql(name: str):
    for value in vars(importlib.import_module(name)).values():
        if isinstance(value, ClauseElement) and isinstance(value, Executable):
            text = str(value.compile(dialect=postgresql.dialect()))
            assert "julianday" not in text
            assert "BLOB" not in text


async def state(store: SqlStore, chat_id: str, turn_id: str) -> list[Any]:
    return [
        await store.read(ListChats(owner=OWNER, limit=9)),
        await store.read(ListTurns(owner=OWNER, chat_id=chat_id)),
        await store.read(AllBlocks(turn_id=turn_id)),
        await store.read(AttemptsOfTurn(turn_id=turn_id)),
        await store.read(Journals()),
        await store.read(LastPage()),
    ]


async def test_each_write_again_changes_nothing_and_what_ran_compiles_for_postgresql(store: SqlStore):
    seen: list[Any] = []

    def see(_connection: Any, statement: Any, *_: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_execute", see)
    chat = make_chat()
    timed = {"created_at": SET_BY_STORE}
    user, turn = make_turn(chat, "user", **timed), make_turn(chat, "assistant", **timed)
    here = {"turn_id": turn.id, "generation": turn.generation}
    attempt = CallAttempt(0, 1, "sim/demo", "complete", 5, 0.5, Usage(1, 2))
    writes = [
        CreateChat(chat=chat),
        StartTurns(owner=OWNER, user_turn=user, assistant_turn=turn, user_blocks=(make_block(user, 0),),
                   idempotency_key="key", request_hash="hash"),
        MarkStreaming(**here, now=7),
        SaveBlock(**here, row=make_block(turn, 0)),
        SaveBlock(**here, row=make_block(turn, 1)),
        SaveAnnotations(**here, rows=(Annotation(turn.id, 3, b"{}"),)),
        RetractBlocks(**here, index=1, seq=40),
        append_journal((make_segment(turn, 5, 0),)),
        SaveStep(**here, steps=(StepUsage(0, "sim/demo", Usage(1, 2)),), attempts=(attempt,)),
        TrimJournal(before=None),
    ]  # fmt: skip
    for write in writes:
        answer = await store.write(write)
        before = await state(store, chat.id, turn.id)
        assert await store.write(write) == answer, write
        assert await state(store, chat.id, turn.id) == before, write
    end = finish(turn, blocks=(make_block(turn, 1),), attempts=(attempt,))
    assert await store.write(end)
    before = await state(store, chat.id, turn.id)
    assert await store.write(end) is True, "the write is repeated, as if its answer was lost"
    assert await store.write(finish(turn, "error")) is False, "the turn has ended; its row says how"
    assert await state(store, chat.id, turn.id) == before
    assert (await store.read(GetTurn(owner=OWNER, turn_id=turn.id))).status == "complete"
    await store.write(DeleteChat(owner=OWNER, chat_id=chat.id))
    with pytest.raises(NotFound):
        await store.write(DeleteChat(owner=OWNER, chat_id=chat.id))
    assert (
        await store.write(PurgeChat(chat_id=chat.id)) is await store.write(PurgeChat(chat_id=chat.id)) is True
    )
    event.remove(Engine, "before_execute", see)
    assert len(seen) > 30
    for statement in seen:
        assert str(statement.compile(dialect=postgresql.dialect()))
