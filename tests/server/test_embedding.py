"""The engine inside other applications: the two examples, unchanged."""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.server.live import Client, Watcher, serving
from turnstream import Engine, TurnComplete

ADA = {"X-Token": "secret-of-ada"}
BOB = {"X-Token": "secret-of-bob"}


@pytest.fixture
def example(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    """An example, imported anew, with its working directory in a folder of this test."""
    monkeypatch.chdir(tmp_path)
    name = f"examples.{request.param}"
    yield importlib.import_module(name)
    del sys.modules[name]


@pytest.mark.requirement("A1")
@pytest.mark.requirement("C3")
@pytest.mark.parametrize("example", ["embedded_fastapi"], indirect=True)
async def test_a_host_with_users_prefix_and_middleware_resumes_at_any_byte(example: ModuleType) -> None:
    async with serving(example.app) as port:
        ada = Client(port, ADA, "/company/llm")
        turn_id = await ada.start("hi", model="sim/story:events=120,pace=0.002,seed=3")
        cut, whole = Watcher(ada, turn_id), Watcher(ada, turn_id)
        cuts = random.Random(5)
        while not cut.ended:
            await cut.watch(limit=cuts.randrange(1, 3000))
        await whole.watch_to_the_end()
        stored = await ada.stored(turn_id)
        assert stored
        assert cut.connections > 1
        assert cut.blocks == whole.blocks == stored
        assert cut.terminal_events() == whole.terminal_events() == ["turn_complete"]

        answer = await ada.call("GET", f"/turns/{turn_id}")
        assert answer.headers["x-company"] == "Example"
        bob = Client(port, BOB, "/company/llm")
        for path in (f"/turns/{turn_id}", f"/turns/{turn_id}/blocks", f"/turns/{turn_id}/stream"):
            assert (await bob.call("GET", path)).status == 404
        assert (await bob.call("POST", f"/turns/{turn_id}/interrupt")).status == 404
        assert (await bob.call("GET", "/chats")).json["chats"] == []
        stranger = Client(port, {"X-Token": "guessed"}, "/company/llm")
        assert (await stranger.call("GET", f"/turns/{turn_id}/stream")).status == 401


@pytest.mark.requirement("F7")
@pytest.mark.parametrize("example", ["foreign_source"], indirect=True)
async def test_a_foreign_source_is_streamed_stored_and_resumed(example: ModuleType) -> None:
    async with serving(example.app) as port:
        here, engine = Client(port, {}, ""), Client(port, {}, "/llm")
        answer = await here.call("POST", "/countdown?start=5")
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        first = answer.body.split(b"\n\n")[0]
        turn_id = first.split(b'"turn_id":"')[1][:36].decode()
        text = "5… 4… 3… 2… 1… lift-off 🚀"
        assert (await engine.stored(turn_id))[0]["text_content"] == text
        assert answer.body.count(b"event: data\n") == 5
        assert answer.body.count(b"event: turn_complete\n") == 1
        again = Watcher(engine, turn_id)
        await again.watch_to_the_end()
        assert again.blocks == await engine.stored(turn_id)


@pytest.mark.requirement("D2")
@pytest.mark.parametrize("example", ["foreign_source"], indirect=True)
async def test_a_foreign_source_goes_on_when_its_caller_hangs_up(example: ModuleType) -> None:
    async with serving(example.app) as port:
        here, engine = Client(port, {}, ""), Client(port, {}, "/llm")
        reader, writer = await here.open("POST", "/countdown?start=6")
        head = await reader.readuntil(b'"turn_id":"')
        turn_id = (await reader.readexactly(36)).decode()
        writer.transport.abort()
        assert b"200 OK" in head
        watcher = Watcher(engine, turn_id)
        await watcher.watch_to_the_end()
        assert watcher.terminal_events() == ["turn_complete"]
        assert watcher.blocks[0]["text_content"].endswith("lift-off 🚀")


@pytest.mark.requirement("F7")
@pytest.mark.parametrize("example", ["foreign_source"], indirect=True)
async def test_a_bad_cursor_at_a_host_s_endpoint_is_a_400(example: ModuleType) -> None:
    async with serving(example.app) as port:
        answer = await Client(port, {}, "").call("POST", "/countdown?start=1&after=nonsense")
        assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_cursor")


async def test_a_turn_of_the_host_is_iterated_from_its_beginning(tmp_path: Path) -> None:
    async with Engine(f"sqlite:///{tmp_path}/turns.sqlite") as engine:
        turn = await engine.send("hi", model="sim/echo:pace=0")
        events = [event async for event in turn]
        assert isinstance(events[-1], TurnComplete)
        assert events == [event async for event in turn.events()]
