"""The stream of many turns on a real server: a client that reconnects, a drain, and refused cursors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from tests.server.live import serving
from tests.turns.world import SECONDS
from turnstream import AsyncClient
from turnstream.config import EngineSettings
from turnstream.core.native_fold import NativeFold
from turnstream.engine import Engine
from turnstream.errors import InvalidRequest, NotFound


def engine_at(folder: Path) -> Engine:
    return Engine(f"sqlite:///{folder}/a.sqlite", settings=EngineSettings(default_model="sim/echo"))


@asynccontextmanager
async def client_of(engine: Engine) -> AsyncGenerator[AsyncClient, None]:
    async with serving(engine.application()) as port, AsyncClient(f"http://127.0.0.1:{port}") as client:
        yield client


@pytest.mark.requirement("N8")
async def test_a_client_that_reconnects_after_each_event_gets_all_turns(tmp_path: Path) -> None:
    async with asyncio.timeout(SECONDS), client_of(engine_at(tmp_path)) as client:
        chat = await client.chats.create("first")
        events, folds = client.events(), {}
        async with aclosing(aiter(events)) as stream:
            assert (await anext(stream)).name == "events_start"
        one = await client.send("hello", chat_id=chat.id)
        two = await client.send("world", chat_id=chat.id)
        while sum(fold.ending is not None for fold in folds.values()) < 2:
            async with aclosing(aiter(events)) as stream:
                name, data = await anext(stream)
            if name == "turn_started":
                assert data["turn_id"] not in folds
                folds[data["turn_id"]] = NativeFold()
            elif not name.startswith("chat_"):
                folds[data["turn_id"]].feed(name, data)
        texts = {turn_id: fold.blocks[0].text_content for turn_id, fold in folds.items()}
        assert texts == {one.turn_id: "hello", two.turn_id: "world"}


async def test_the_stream_of_a_deleted_chat_ends(tmp_path: Path) -> None:
    async with asyncio.timeout(SECONDS), client_of(engine_at(tmp_path)) as client:
        chat, other = await client.chats.create("first"), await client.chats.create("second")
        names: list[str] = []
        async for event in client.events(chat.id):
            names.append(event.name)
            if event.name == "events_start":
                await client.chats.rename(other.id, "unseen")
                await client.chats.rename(chat.id, "seen")
            elif event.name == "chat_changed":
                assert event.data["title"] == "seen"
                await client.chats.delete(chat.id)
        assert names == ["events_start", "chat_changed", "chat_deleted", "events_end"]
        with pytest.raises(NotFound):
            await anext(aiter(client.events(chat.id)))


@pytest.mark.requirement("N8")
async def test_a_watcher_of_a_chat_that_is_deleted_while_it_is_away_gets_the_deletion(tmp_path: Path) -> None:
    async with asyncio.timeout(SECONDS), client_of(engine_at(tmp_path)) as client:
        chat = await client.chats.create("first")
        events = client.events(chat.id)
        async with aclosing(aiter(events)) as stream:
            assert (await anext(stream)).name == "events_start"
        await (await client.send("hello", chat_id=chat.id)).wait()
        await client.chats.delete(chat.id)
        before = events.last_id
        assert [name async for name, _ in events] == ["chat_deleted", "events_end"]
        assert events.ended
        for after in (None, events.last_id):
            with pytest.raises(NotFound):
                await anext(aiter(client.events(chat.id, after=after)))
        other = await client.chats.create("second")
        with pytest.raises(NotFound):
            await anext(aiter(client.events("01a1fc3d-f970-7117-9c99-98b8bd7eacee", after=before)))
        assert (await anext(aiter(client.events(other.id, after=before)))).name == "events_start"


@pytest.mark.parametrize("cursor", ["1-", "zz-1", "1-2.3", "1-2.3-4.3-5", "1-2" + ".1-1" * 65, "1" * 5000])
async def test_a_cursor_that_is_none_is_refused(tmp_path: Path, cursor: str) -> None:
    async with asyncio.timeout(SECONDS), client_of(engine_at(tmp_path)) as client:
        with pytest.raises(InvalidRequest) as refused:
            await anext(aiter(client.events(after=cursor)))
        assert refused.value.code == "invalid_cursor"


async def test_a_drained_server_ends_the_stream(tmp_path: Path) -> None:
    engine = engine_at(tmp_path)
    async with asyncio.timeout(SECONDS), client_of(engine) as client:
        async for event in client.events():
            if event.name == "events_start":
                await engine.drain(1.0)
            else:
                assert (event.name, event.data["code"]) == ("events_end", "draining")
                break
