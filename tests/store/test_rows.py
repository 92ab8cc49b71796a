"""Stored values are read back unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from tests.store.samples import (
    OWNER,
    finish,
    make_turn,
)
from turnstream.core.blocks import BLOCK_TYPES, Block
from turnstream.core.identifiers import new_id
from turnstream.core.usage import Usage
from turnstream.store.base import BlockRecord, ChatRecord, TurnRecord
from turnstream.store.operations.chats import CreateChat
from turnstream.store.operations.content import SaveBlock
from turnstream.store.operations.start import StartTurns
from turnstream.store.queries import (
    AllBlocks,
    GetChat,
    GetTurn,
)
from turnstream.store.sqlite.database import writer_engine

texts = st.text(max_size=30)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(texts, json_values, max_size=4)
counts = st.none() | st.integers(0, 2**40)
times = st.integers(0, 2**53)
block_values = st.builds(
    Block,
    sequence=st.just(0),
    block_type=st.sampled_from(sorted(BLOCK_TYPES)),
    text_content=st.none() | texts,
    content=st.none() | json_objects,
    partial=st.booleans(),
)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_is_stored_comes_back_alike(empty_database: Path, data: st.DataObject):
    chat = ChatRecord(new_id(), OWNER, data.draw(st.none() | texts), data.draw(json_objects), 1, 1)
    turn = msgspec.structs.replace(
        make_turn(chat, "assistant"),
        system=data.draw(st.none() | texts),
        params=data.draw(json_objects),
        metadata=data.draw(json_objects),
        fences=data.draw(st.lists(st.tuples(times, times), max_size=3).map(tuple)),
        usage=data.draw(st.builds(Usage, counts, counts, counts, counts, counts)),
        error_message=data.draw(st.none() | texts),
        started_at=data.draw(st.none() | times),
    )
    first = BlockRecord(new_id(), turn.id, data.draw(block_values), 1, 2, data.draw(times))
    second = msgspec.structs.replace(
        first, block=msgspec.structs.replace(data.draw(block_values), sequence=1)
    )
    engine = writer_engine(empty_database, 1.0)
    with engine.connect() as connection, connection.begin() as transaction:
        CreateChat(chat=chat).apply(connection)
        StartTurns(owner=OWNER, user_turn=None, assistant_turn=turn, user_blocks=()).apply(connection)
        SaveBlock(turn_id=turn.id, generation=turn.generation, row=first).apply(connection)
        chat = msgspec.structs.replace(chat, updated_at=turn.created_at, active_turn_id=turn.id)
        assert _fetched(connection, chat, turn) == (chat, turn, [first])
        assert finish(turn, "error", blocks=(second,)).apply(connection)
        assert AllBlocks(turn_id=turn.id).fetch(connection) == [first, second]
        transaction.rollback()
    engine.dispose()


def _fetched(connection: Connection, chat: ChatRecord, turn: TurnRecord) -> tuple[Any, ...]:
    return (
        GetChat(owner=OWNER, chat_id=chat.id).fetch(connection),
        GetTurn(owner=OWNER, turn_id=turn.id).fetch(connection),
        AllBlocks(turn_id=turn.id).fetch(connection),
    )
