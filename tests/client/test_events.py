"""The events of many turns: a client of servers that are killed, and the blocking client."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.client.restarting import SECONDS, Life, process
from tests.server.live import serving
from turnstream.client import AsyncClient, AsyncEvents, Client, NativeEvent, Retry
from turnstream.config import EngineSettings
from turnstream.core.native_fold import NativeFold
from turnstream.engine import Engine
from turnstream.errors import NotFound

RETRY = Retry(first_delay=0.005, max_delay=0.02, budget=20, idle=10)
SLOW = "sim/story:events=100000,pace=0.002,seed=4"


class Seen:
    """The state of a watcher of many turns, and its task."""

    def __init__(self, events: AsyncEvents) -> None:
        self.events = events
        self.starts = 0
        self.folds: dict[str, NativeFold] = {}
        self.titles: dict[str, str | None] = {}
        self.deleted: list[str] = []
        self.announced: set[tuple[str, ...]] = set()
        self._moved = asyncio.Condition()
        self.task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        async for event in self.events:
            self.take(event)
            async with self._moved:
                self._moved.notify_all()

    def take(self, event: NativeEvent) -> None:
        name, data = event
        if name.startswith("chat_"):
            change = (name, data["chat_id"], data.get("updated_at", ""))
            assert change not in self.announced
            self.announced.add(change)
        match name:
            case "events_start":
                self.starts += 1
            case "turn_started":
                assert data["turn_id"] not in self.folds, "a turn is announced once"
                self.folds[data["turn_id"]] = NativeFold()
            case "chat_created" | "chat_changed":
                self.titles[data["chat_id"]] = data["title"]
            case "chat_deleted":
                self.titles.pop(data["chat_id"], None)
                self.deleted.append(data["chat_id"])
            case "events_end":
                pass
            case _:
                self.folds[data["turn_id"]].feed(name, data)

    def text(self, turn_id: str) -> str:
        fold = self.folds.get(turn_id)
        return "" if fold is None else "".join(block.text_content or "" for block in fold.blocks)

    def has_ended(self, turn_id: str) -> bool:
        return turn_id in self.folds and self.folds[turn_id].ending is not None

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS), self._moved:
            await self._moved.wait_for(lambda: condition() or self.task.done())
        if self.task.done():
            self.task.result()
        assert condition()

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])

    async def check(self, client: AsyncClient, turn_ids: list[str]) -> None:
        assert self.starts == 1, "every connection but the first resumed"
        for turn_id in turn_ids:
            stored = await client.read(turn_id)
            ending = self.folds[turn_id].ending
            assert ending is not None
            assert ending.data["status"] == stored.status
            assert self.folds[turn_id].blocks == [row.block for row in stored.blocks]


@pytest.mark.requirement("N8", "P1", "D5")
async def test_watchers_of_many_turns_miss_nothing_of_a_killed_server(tmp_path: Path) -> None:
    """Two watchers stay. Two watchers leave before the server is killed, and come back after more events."""
    database = tmp_path / "turns.sqlite"
    async with process(Life(database, 0, 0.05)) as server:
        port = urlsplit(server.url).port or 0
        client = AsyncClient(server.url, retry=RETRY)
        kept, gone = await client.chats.create("kept"), await client.chats.create("gone")
        watching = [Seen(client.events(chat_id)) for chat_id in (None, kept.id, None, kept.id)]
        for seen in watching:
            await seen.until(lambda seen=seen: seen.starts == 1)
        lost = await client.send("Go on", chat_id=kept.id, model=SLOW)
        first = await (await client.send("hello", chat_id=kept.id, model="sim/echo:pace=0")).wait()
        await client.chats.rename(kept.id, "renamed")
        for seen in watching:
            await seen.until(lambda seen=seen: len(seen.text(lost.turn_id)) > 400)
            await seen.until(lambda seen=seen: seen.has_ended(first.turn_id))
        for seen in watching[2:]:
            await seen.leave()
        os.kill(server.pid, signal.SIGKILL)
        await server.ended()
    async with process(Life(database, port, 0.05)):
        second = await (await client.send("world", chat_id=kept.id, model="sim/echo:pace=0")).wait()
        await client.chats.rename(kept.id, "renamed again")
        await client.chats.delete(gone.id)
        for seen in watching[2:]:
            seen.task = asyncio.create_task(seen._watch())
        turn_ids = [turn.turn_id for turn in (lost, first, second)]
        for seen in watching:
            for turn_id in turn_ids:
                await seen.until(lambda seen=seen, turn_id=turn_id: seen.has_ended(turn_id))
            await seen.until(lambda seen=seen: seen.titles.get(kept.id) == "renamed again")
        for seen in watching[::2]:
            await seen.until(lambda seen=seen: seen.deleted == [gone.id])
            assert seen.titles == {kept.id: "renamed again"}
        for seen in watching:
            await seen.check(client, turn_ids)
            await seen.leave()
        assert (await client.read(lost.turn_id)).status == "error"
        assert watching[0].events.losses > 0
        await client.close()


def engine_at(folder: Path) -> Engine:
    return Engine(f"sqlite:///{folder}/a.sqlite", settings=EngineSettings(default_model="sim/echo:pace=0"))


@pytest.mark.requirement("N8")
async def test_events_without_asyncio_continue_after_the_last_one(tmp_path: Path) -> None:
    def watch(url: str) -> tuple[list[str], dict[str, str]]:
        names: list[str] = []
        folds: dict[str, NativeFold] = {}
        with Client(url, retry=RETRY) as client:
            chat = client.chats.create("first")
            with client.events(chat.id) as events:
                for event in events:
                    names.append(event.name)
                    break
                asked = [client.send(text, chat_id=chat.id).turn_id for text in ("one", "two")]
                while not all(turn_id in folds and folds[turn_id].ending for turn_id in asked):
                    for name, data in events:  # each loop reads one event, over a connection of its own
                        names.append(name)
                        if name == "turn_started":
                            folds[data["turn_id"]] = NativeFold()
                        elif "turn_id" in data:
                            folds[data["turn_id"]].feed(name, data)
                        break
            client.chats.delete(chat.id)
            names += [name for name, _ in client.events(chat.id, after=events.last_id)]
            with pytest.raises(NotFound):
                next(iter(client.events(chat.id)))
        return names, {turn_id: fold.blocks[0].text_content or "" for turn_id, fold in folds.items()}

    async with serving(engine_at(tmp_path).application()) as port:
        async with asyncio.timeout(SECONDS):
            names, texts = await asyncio.to_thread(watch, f"http://127.0.0.1:{port}")
    assert names.count("events_start") == 1
    assert names[-2:] == ["chat_deleted", "events_end"]
    assert sorted(texts.values()) == ["one", "two"]


async def test_one_loop_at_a_time_watches(tmp_path: Path) -> None:
    def watch(url: str) -> None:
        with Client(url, retry=RETRY) as client:
            events = client.events()
            loop = iter(events)
            next(loop)
            with pytest.raises(RuntimeError, match=r"client\.events"):
                next(iter(events))
            loop.close()
            assert next(iter(client.events())).name == "events_start"

    async with serving(engine_at(tmp_path).application()) as port:
        url = f"http://127.0.0.1:{port}"
        async with asyncio.timeout(SECONDS), AsyncClient(url, retry=RETRY) as client:
            async with client.events() as events:
                first: Any = aiter(events)
                await anext(first)
                waiting = asyncio.create_task(anext(first))
                await asyncio.sleep(0)
                with pytest.raises(RuntimeError, match=r"client\.events"):
                    await anext(aiter(events))
                waiting.cancel()
                await asyncio.wait([waiting])
            await asyncio.to_thread(watch, url)
