"""An engine that was not entered says so, instead of a failure of the database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fastapi import FastAPI

from tests.server.live import Client, serving
from turnstream.core.identifiers import new_id
from turnstream.core.stream_events import MessageStop
from turnstream.engine import Engine
from turnstream.errors import NotStarted

pytestmark = pytest.mark.fault(47)
DEADLINE = 10.0


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(f"sqlite:///{tmp_path}/turns.sqlite")


@pytest.mark.parametrize("way", ["mounted application", "router"])
async def test_every_route_of_a_host_without_lifespan_says_so(engine: Engine, way: str) -> None:
    host = FastAPI()
    if way == "router":
        host.include_router(engine.router("/llm"))
    else:
        host.mount("/mounted", engine.application())
    async with serving(host) as port:
        client = Client(port, {}, "/llm" if way == "router" else "/mounted/api")
        some = new_id()
        for method, path, body in (
            ("GET", "/chats", None),
            ("POST", "/chats", {}),
            ("GET", f"/chats/{some}/path", None),
            ("GET", f"/turns/{some}", None),
            ("GET", f"/turns/{some}/stream", None),
            ("POST", f"/turns/{some}/interrupt", None),
            ("POST", f"/chats/{some}/turns", {"turn_blocks": [{"block_type": "text", "text_content": "hi"}]}),
            ("DELETE", f"/chats/{some}", None),
        ):
            answer = await client.call(method, path, body)
            assert answer.status == 503, (method, path)
            assert answer.json["error"]["code"] == "engine_not_started"
            assert "lifespan" in answer.json["error"]["message"]
    assert not engine.active_turns


async def test_the_engine_s_own_methods_say_so_and_start_nothing(engine: Engine) -> None:
    async def source():
        yield MessageStop("end_turn", "stop")

    some = new_id()
    async with asyncio.timeout(DEADLINE):
        for call in (
            lambda: engine.send("hi"),
            lambda: engine.send("hi", chat_id=some),
            lambda: engine.start(source()),
            lambda: engine.start(source(), chat_id=some),
            lambda: engine.subscribe(some),
        ):
            with pytest.raises(NotStarted, match="async with engine"):
                await call()
    assert not engine.active_turns


async def test_an_engine_that_was_closed_says_that(engine: Engine) -> None:
    async with engine:
        pass
    with pytest.raises(Exception, match="the store was closed"):
        await engine.send("hi")
