"""A photograph in a turn is an ordinary request. The server does not hold the body of an unknown caller."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import Client, Watcher, read_head, serving
from turnstream.config import ProviderSettings
from turnstream.engine import Engine
from turnstream.server.auth import key_required
from turnstream.server.requests import limited_route
from turnstream.simulator import request_log
from turnstream.simulator.server import SimulatorServer

pytestmark = pytest.mark.fault(45)

PHOTOGRAPH = base64.b64encode(random.Random(45).randbytes(10 * 1024 * 1024)).decode()
WIRES = ["anthropic", "openai-chat", "openai-responses", "gemini", "ollama"]


def turn_of(block_type: str, media_type: str, model: str) -> dict[str, Any]:
    content = {"media_type": media_type, "data": PHOTOGRAPH}
    text = {"block_type": "text", "text_content": "What is this?"}
    return {"turn_blocks": [text, {"block_type": block_type, "content": content}], "model": model}


@pytest.mark.parametrize("wire", WIRES)
async def test_an_image_of_ten_megabytes_reaches_the_model(
    tmp_path: Path, wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "BODY_LIMIT", 1 << 26)
    async with SimulatorServer() as provider:
        root = provider.url + ("/v1" if wire.startswith("openai") else "")
        engine = Engine(
            f"sqlite:///{tmp_path}/turns.sqlite",
            providers={"here": ProviderSettings(wire=wire, base_url=root)},
        )
        async with serving(engine.application()) as port:
            client = Client(port)
            chat = (await client.call("POST", "/chats")).json["id"]
            body = turn_of("image", "image/jpeg", "here/echo:pace=0")
            started = await client.call("POST", f"/chats/{chat}/turns", body)
            assert started.status == 201, started.body[:300]
            first = started.json["assistant_turn"]["id"]
            await Watcher(client, first).watch_to_the_end()
            user = (await client.call("GET", f"/turns/{started.json['user_turn']['id']}")).json
            assert user["blocks"][1]["content"]["data"] == PHOTOGRAPH
            follow_up = {"turn_blocks": body["turn_blocks"][:1], "prev_turn_id": first}
            second = await client.call("POST", f"/chats/{chat}/turns?stream=true", follow_up)
            assert b"event: turn_complete\n" in second.body
            for asked in provider.log.newest(2):
                assert PHOTOGRAPH.encode() in bytes(asked.body)


async def test_a_document_of_ten_megabytes_is_taken_by_the_streaming_way(tmp_path: Path) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port:
        client = Client(port)
        chat = (await client.call("POST", "/chats")).json["id"]
        body = turn_of("document", "application/pdf", "sim/echo:pace=0")
        answer = await client.call("POST", f"/chats/{chat}/turns?stream=true", body)
        assert b"event: turn_complete\n" in answer.body


@pytest.mark.parametrize(
    "path", ["/chats", "/chats/x/turns", "/chats/x/turns?stream=true", "/turns/x/regenerate"]
)
async def test_the_body_of_somebody_unknown_is_not_held(tmp_path: Path, path: str) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite", authenticate=key_required("k3y"))
    async with serving(engine.application()) as port:
        size = 18 * 1024 * 1024
        reader, writer = await Client(port).open(
            "POST", path, headers={"Content-Length": str(size), "Connection": "keep-alive"}
        )
        tracemalloc.start()
        try:
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(20):
                    for _ in range(size // 65536):
                        writer.write(b" " * 65536)
                        await writer.drain()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        async with asyncio.timeout(20):
            status, headers = await read_head(reader)
        writer.transport.abort()
        assert (status, headers["connection"]) == (401, "close")
        assert peak < 2 * 1024 * 1024


async def status_of_slow_body(client: Client, body: bytes, *, sent: int) -> int:
    """Send the first `sent` bytes in ten pieces, 50 ms apart. Return the status of the answer."""
    reader, writer = await client.open("POST", "/chats", headers={"Content-Length": str(len(body))})
    head = asyncio.create_task(read_head(reader))
    for place in range(10):
        writer.write(body[place * sent // 10 : (place + 1) * sent // 10])
        await asyncio.wait({head}, timeout=0.05)
    async with asyncio.timeout(20):
        status, _ = await head
    writer.close()
    return status


async def test_a_body_that_arrives_steadily_has_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Received bytes earn more time. When they stop, the time runs out."""
    monkeypatch.setattr(limited_route, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(limited_route, "BODY_RATE", 1000)
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port:
        body = b'{"title": "x"}' + b" " * 5000
        assert await status_of_slow_body(Client(port), body, sent=len(body)) == 201
        assert await status_of_slow_body(Client(port), body, sent=500) == 408


async def test_large_bodies_under_way_are_bounded_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stalled uploads hold no more than the limit. Small requests pass, and large ones pass when the uploads
    are gone."""
    limit = 1024 * 1024
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    monkeypatch.setattr(engine._context.bodies, "_limit", limit)
    head = f"POST /api/chats HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {limit}\r\n\r\n".encode()
    async with serving(engine.application()) as port, asyncio.timeout(30):
        stalled = [await asyncio.open_connection("127.0.0.1", port) for _ in range(6)]
        for _, writer in stalled:
            writer.write(head + b"{" * (limit // 2))
            await writer.drain()
        refused = [asyncio.create_task(read_head(reader)) for reader, _ in stalled]
        done, waiting = await asyncio.wait(refused, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 4:
            more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        assert {task.result()[0] for task in done} == {503}
        assert all("retry-after" in task.result()[1] for task in done)
        assert engine._context.bodies._held <= limit
        client = Client(port)
        assert (await client.call("POST", "/chats", {"title": "small"})).status == 201
        for task in waiting:
            task.cancel()
        for _, writer in stalled:
            writer.close()
        large = {"title": "large", "metadata": {"x": "y" * (limit // 2)}}
        while (answer := await client.call("POST", "/chats", large)).status == 503:
            continue
        assert answer.status == 400  # its metadata are too large, which was looked at
        assert engine._context.bodies._held == 0
