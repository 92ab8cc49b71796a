"""The search of chats: each request has a bound, and the requests together reach the oldest chat."""

from __future__ import annotations

import pytest

from tests.store.samples import OWNER, STRANGER, make_block, make_chat, make_turn
from turnstream.store.base import ChatRecord
from turnstream.store.chats import search as chat_search
from turnstream.store.chats.search import SearchChats
from turnstream.store.operations.chats import CreateChat
from turnstream.store.operations.content import SaveBlock
from turnstream.store.operations.start import StartTurns
from turnstream.store.sql import SqlStore


async def chat_with(store: SqlStore, text: str, *, updated_at: int, owner: str = OWNER) -> ChatRecord:
    """Store a chat whose question has the text."""
    chat = make_chat(owner)
    await store.write(CreateChat(chat=chat))
    question = make_turn(chat, "user", created_at=updated_at)
    answer = make_turn(chat, "assistant", question, created_at=updated_at)
    await store.write(StartTurns(owner=owner, user_turn=question, assistant_turn=answer))
    block = make_block(answer, 0, text)
    await store.write(SaveBlock(turn_id=answer.id, generation=answer.generation, row=block))
    return chat


async def search(store: SqlStore, text: str, *, limit: int = 10) -> tuple[list[str], int]:
    """Return the ids of all chats with the text, and the number of requests."""
    found: list[str] = []
    before: tuple[int, str] | None = None
    for requests in range(1, 50):
        page = await store.read(SearchChats(owner=OWNER, text=text, limit=limit, before=before))
        assert len(page.chats) <= limit
        found += [chat.id for chat in page.chats]
        if page.next is None:
            return found, requests
        before = page.next
    raise AssertionError("the search does not end")


async def test_a_text_in_the_oldest_chat_is_found_after_windows_without_one(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_search, "WINDOW", 3)
    oldest = await chat_with(store, "about Granite", updated_at=1)
    for number in range(7):
        await chat_with(store, "about water", updated_at=number + 2)
    newest = await chat_with(store, "GRANITE too", updated_at=10)
    await chat_with(store, "granite of another owner", updated_at=11, owner=STRANGER)
    first = await store.read(SearchChats(owner=OWNER, text="granite", limit=10))
    assert [chat.id for chat in first.chats] == [newest.id]
    assert first.next is not None
    second = await store.read(SearchChats(owner=OWNER, text="granite", limit=10, before=first.next))
    assert second.chats == []
    assert second.next is not None
    assert await search(store, "granite") == ([newest.id, oldest.id], 4)


async def test_many_finds_come_in_pages_without_a_gap_or_a_repetition(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_search, "WINDOW", 4)
    made = [await chat_with(store, f"stone {number}", updated_at=number) for number in range(10)]
    found, _ = await search(store, "STONE", limit=3)
    assert found == [chat.id for chat in reversed(made)]
    assert await search(store, "stone 7") == ([made[7].id], 3)
    assert await search(store, "100%") == ([], 3)
