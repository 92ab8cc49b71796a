"""Two nodes read and write one conversation of the staged agent at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from tests.postgresql import PostgresServer
from tests.store.samples import OWNER, make_chat, pending_turn
from turnstream.core.identifiers import new_id
from turnstream.store.agent_rows import (
    AgentConversation,
    ChangeAgentMessage,
    CreateAgentConversation,
    CreateAgentMessage,
    FindAgentMessage,
    NumberAgentMessages,
    WrittenMessage,
)
from turnstream.store.sql import SqlStore


@pytest.fixture
def url(postgres: PostgresServer, postgres_template: str) -> str:
    return postgres.database(postgres_template)


@pytest.fixture
async def other(url: str) -> AsyncIterator[SqlStore]:
    """The store of another node."""
    other = SqlStore(url)
    await other.open()
    yield other
    await other.close()


async def conversation(store: SqlStore) -> AgentConversation:
    return await store.write(CreateAgentConversation(chat=make_chat(), page_name="page"))


def message(made: AgentConversation) -> CreateAgentMessage:
    return CreateAgentMessage(
        owner=OWNER, conversation=made.number, parent=None, written=WrittenMessage(), write_id=new_id()
    )


def piece(number: int) -> ChangeAgentMessage:
    return ChangeAgentMessage(owner=OWNER, number=number, write_id=new_id(), piece="x")


@pytest.mark.requirement("Q2")
async def test_two_nodes_give_a_turn_one_number(store: SqlStore, other: SqlStore):
    made = await conversation(store)
    chat = msgspec.structs.replace(make_chat(), id=made.chat_id)
    for _ in range(20):
        await pending_turn(store, chat)
        reading = NumberAgentMessages(owner=OWNER, conversation=made.number)
        one, two = await asyncio.gather(store.write(reading), other.write(reading))
        assert one == two


@pytest.mark.requirement("Q2")
async def test_pieces_that_two_nodes_add_to_a_message_are_all_there(store: SqlStore, other: SqlStore):
    made = await conversation(store)
    number = await store.write(message(made))
    for _ in range(20):
        await asyncio.gather(store.write(piece(number)), other.write(piece(number)))
    found = await store.read(FindAgentMessage(owner=OWNER, number=number))
    assert found.written is not None
    assert found.written.content == "x" * 40


@pytest.mark.requirement("Q7")
async def test_a_repeated_write_adds_no_message_and_no_piece(store: SqlStore):
    """The answer to a COMMIT was lost, and the write is applied again."""
    made = await conversation(store)
    creation = message(made)
    number = await store.write(creation)
    assert await store.write(creation) == number
    assert await store.write(message(made)) != number
    change = piece(number)
    assert await store.write(change) == await store.write(change)
    found = await store.read(FindAgentMessage(owner=OWNER, number=number))
    assert found.written is not None
    assert found.written.content == "x"
    assert len(await store.write(NumberAgentMessages(owner=OWNER, conversation=made.number))) == 2
