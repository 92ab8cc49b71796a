"""Branches through the client: regenerated answers, edited user turns, siblings, and the shown path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server.live import serving
from turnstream.client import AsyncClient, ChatPath, Client, Retry
from turnstream.engine import Engine
from turnstream.errors import Conflict, InvalidRequest, NotFound

MODEL = "sim/echo:pace=0"
QUICK = Retry(first_delay=0.001, max_delay=0.01, budget=5, idle=5, request=5)

pytestmark = pytest.mark.requirement("F6", "A7")


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port:
        yield f"http://127.0.0.1:{port}"


def said(path: ChatPath) -> list[tuple[str, str, int]]:
    """Return the role, the text and the number of alternatives of each turn."""
    return [(turn.role, turn.text, len(turn.siblings)) for turn in path.turns]


async def test_branches_of_a_chat(url: str) -> None:
    async with AsyncClient(url, retry=QUICK) as client:
        first = await (await client.send("one", model=MODEL)).wait()
        chat_id = first.chat_id or ""
        again = await (await client.regenerate(first.turn_id, params={"temperature": 1})).wait()
        assert (again.chat_id, again.text) == (chat_id, "one")
        assert [turn.id for turn in (await client.siblings(again.turn_id)).turns] == [
            first.turn_id,
            again.turn_id,
        ]
        shown = await client.chats.path(chat_id)
        assert said(shown) == [("user", "one", 1), ("assistant", "one", 2)]
        assert (shown.turns[1].id, shown.turns[1].params) == (again.turn_id, {"temperature": 1})

        question = shown.turns[0].id
        edited = await (await client.edit(question, "two", model=MODEL)).wait()
        assert said(await client.chats.path(chat_id)) == [("user", "two", 2), ("assistant", "two", 1)]
        old = await client.chats.path(chat_id, first.turn_id)
        assert [turn.id for turn in old.turns] == [question, first.turn_id]
        assert (await client.chats.show(chat_id, first.turn_id)).active_turn_id == first.turn_id
        assert await client.chats.path(chat_id) == old

        further = await (await client.send("more", chat_id=chat_id, prev_turn_id=edited.turn_id)).wait()
        later = (await client.chats.path(chat_id)).turns[2]
        await (await client.edit(later.id, "less")).wait()
        assert said(await client.chats.path(chat_id))[2:] == [("user", "less", 2), ("assistant", "less", 1)]
        assert said(await client.chats.path(chat_id, further.turn_id))[2][1] == "more"


async def test_what_cannot_be_branched(url: str) -> None:
    async with AsyncClient(url, retry=QUICK) as client:
        turn = await (await client.send("one", model=MODEL)).wait()
        with pytest.raises(InvalidRequest, match="regenerate"):
            await client.edit(turn.turn_id, "two")
        nobody = "01a1fc3d-f972-7b3d-9880-2b4d5256380e"
        for asking in (client.siblings(nobody), client.regenerate(nobody), client.edit(nobody, "x")):
            with pytest.raises(NotFound):
                await asking
        same = await client.regenerate(turn.turn_id, idempotency_key="k")
        assert (await client.regenerate(turn.turn_id, idempotency_key="k")).turn_id == same.turn_id
        with pytest.raises(Conflict):
            await client.regenerate(turn.turn_id, idempotency_key="k", system="other")


async def test_the_same_without_asyncio(url: str) -> None:
    def talk() -> list[tuple[str, str, int]]:
        with Client(url, retry=QUICK) as client:
            turn = client.send("one", model=MODEL).wait()
            chat_id = turn.chat_id or ""
            again = client.regenerate(turn.turn_id).wait()
            assert len(client.siblings(again.turn_id).turns) == 2
            client.edit(client.chats.path(chat_id).turns[0].id, "two").wait()
            assert said(client.chats.path(chat_id))[0] == ("user", "two", 2)
            assert client.chats.show(chat_id, turn.turn_id).active_turn_id == turn.turn_id
            return said(client.chats.path(chat_id))

    assert await asyncio.to_thread(talk) == [("user", "one", 2), ("assistant", "one", 2)]


async def chat_of_six(client: AsyncClient) -> tuple[str, str]:
    """A chat of six turns, and its last turn."""
    chat_id, previous = (await client.chats.create()).id, None
    for text in ("one", "two", "three"):
        turn = await client.send(text, chat_id=chat_id, prev_turn_id=previous, model=MODEL)
        previous = (await turn.wait()).turn_id
    return chat_id, previous or ""


@pytest.mark.fault(40)
@pytest.mark.parametrize("limit", [1, 4, 6, 200])
async def test_long_chats_are_read_in_pages(url: str, limit: int) -> None:
    async with AsyncClient(url, retry=QUICK) as client:
        chat_id, last = await chat_of_six(client)
        whole, listed = await client.chats.path(chat_id), await client.chats.turns(chat_id)
        assert (len(whole.turns), whole.previous, listed.previous) == (6, None, None)
        path, turns, before = [], [], None
        while True:
            page = await client.chats.path(chat_id, last, limit=limit, before=before)
            same = await client.chats.turns(chat_id, limit=limit, before=before)
            assert page.previous == same.previous
            path, turns, before = [*page.turns, *path], [*same.turns, *turns], page.previous
            if before is None:
                break
        assert (path, turns) == (whole.turns, listed.turns)


@pytest.mark.fault(40)
async def test_pages_without_asyncio_and_of_alternatives(url: str) -> None:
    async with AsyncClient(url, retry=QUICK) as client:
        chat_id, last = await chat_of_six(client)
        again = await (await client.regenerate(last)).wait()
        page = await client.siblings(last, limit=1)
        assert ([turn.id for turn in page.turns], page.previous) == ([again.turn_id], again.turn_id)
        page = await client.siblings(last, limit=1, before=page.previous)
        assert ([turn.id for turn in page.turns], page.previous) == ([last], None)
        with pytest.raises(InvalidRequest):
            await client.chats.path(chat_id, limit=0)
        with pytest.raises(NotFound):
            await client.chats.turns(chat_id, before=chat_id)

    def blocking() -> None:
        with Client(url, retry=QUICK) as client:
            for read in (client.chats.path, client.chats.turns):
                page = read(chat_id, limit=2)
                assert len(page.turns) == 2
                assert len(read(chat_id, before=page.previous).turns) == len(read(chat_id).turns) - 2
            assert len(client.siblings(last, limit=1, before=again.turn_id).turns) == 1

    await asyncio.to_thread(blocking)
