"""A title that a model made: set once, unless the chat has another title by then, and booked once."""

from __future__ import annotations

import pytest

from tests.store.samples import OWNER, make_chat, make_turn
from turnstream.core.identifiers import new_id
from turnstream.core.usage import CallAttempt, Usage
from turnstream.errors import NotFound
from turnstream.store.operations.chats import CreateChat, UpdateChat
from turnstream.store.operations.start import StartTurns
from turnstream.store.operations.titles import SetMadeTitle
from turnstream.store.queries import AttemptsOfTurn, GetChat, GetTurn
from turnstream.store.sql import SqlStore

CALL = CallAttempt(1, 1, "sim/echo", "complete", 7, 0.5, Usage(input_tokens=3, output_tokens=2), "0.250000")
REFUSED = CallAttempt(1, 2, "sim/echo", "overloaded_error", 8, 0.1)


async def test_a_title_is_set_and_its_calls_are_booked_once(store: SqlStore) -> None:
    chat = make_chat()
    await store.write(CreateChat(chat=chat))
    question = make_turn(chat, "user")
    answer = make_turn(chat, "assistant", question)
    await store.write(StartTurns(owner=OWNER, user_turn=question, assistant_turn=answer))
    made = SetMadeTitle(
        turn_id=answer.id,
        owner=OWNER,
        chat_id=chat.id,
        known=chat.title,
        title="Made",
        calls=(CALL, REFUSED),
    )
    assert await store.write(made) is True
    assert await store.write(made) is False
    found = await store.read(GetChat(owner=OWNER, chat_id=chat.id))
    assert (found.title, found.updated_at > chat.updated_at) == ("Made", True)
    turn = await store.read(GetTurn(owner=OWNER, turn_id=answer.id))
    assert turn.usage == CALL.usage
    assert turn.cost is None  # the cost of the answer itself is not known here
    assert await store.read(AttemptsOfTurn(turn_id=answer.id)) == [CALL, REFUSED]


async def test_a_chat_without_a_title_gets_one_and_a_renamed_chat_keeps_its_own(store: SqlStore) -> None:
    chat = make_chat()
    await store.write(CreateChat(chat=chat))
    question = make_turn(chat, "user")
    answer = make_turn(chat, "assistant", question)
    await store.write(StartTurns(owner=OWNER, user_turn=question, assistant_turn=answer))
    made = SetMadeTitle(turn_id=answer.id, owner=OWNER, chat_id=chat.id, known=None, title="Made", calls=())
    assert await store.write(made) is False
    await store.write(UpdateChat(owner=OWNER, chat_id=chat.id, title=None))
    assert await store.write(made) is True
    assert (await store.read(GetChat(owner=OWNER, chat_id=chat.id))).title == "Made"


async def test_a_deleted_turn_gets_no_title(store: SqlStore) -> None:
    made = SetMadeTitle(turn_id=new_id(), owner=OWNER, chat_id=new_id(), known=None, title="T", calls=())
    with pytest.raises(NotFound):
        await store.write(made)
