"""One turn in three protocols with their own clients.

A useChat page starts it, an HttpAgent and a native client watch it, the page stops it at the 40th event, and
resumes it after a reload.
"""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.programs import Program, listening
from tests.clients.javascript.witnesses import CLIENTS, NODE, SECONDS
from turnstream.client import AsyncClient


class Script:
    """A running client: each line that it prints is a JSON value."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def said(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None
            raise AssertionError((await self._process.stderr.read()).decode())
        return json.loads(line)

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")


@asynccontextmanager
async def client(environment: str, *arguments: str) -> AsyncIterator[Script]:
    source = Path(__file__).with_name("one_log.mjs").read_text()
    process = await asyncio.create_subprocess_exec(
        NODE,
        "--input-type=module",
        "--eval",
        source,
        *arguments,
        cwd=CLIENTS / environment,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        limit=1024 * 1024,
    )
    try:
        yield Script(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.requirement("P2", "P5", "N3", "N4")
async def test_all_clients_of_a_stopped_turn_have_the_one_stored_text(tmp_path: Path) -> None:
    serve = ("serve", "--database-url", f"sqlite:///{tmp_path / 'one.sqlite'}", "--port", "0")
    async with asyncio.timeout(SECONDS), Program(*serve, cwd=tmp_path) as server:
        url = await listening(server)
        async with (
            client("ai-sdk-7", "page", f"{url}/api/ai-sdk/v7/chat", "one chat") as page,
            AsyncClient(url) as native,
        ):
            turn_id = (await page.said())["turn"]
            async with client("ag-ui", "agent", f"{url}/api/ag-ui", "one chat", turn_id) as agent:
                watched = native.watch(turn_id)
                events = aiter(watched)
                while not watched.text:
                    await anext(events)
                assert await agent.said() == {"joined": True}
                page.go()
                async for _ in events:
                    pass
                paged, joined = await page.said(), await agent.said()
                stored = await native.read(turn_id)
    texts = [block.text_content for block in stored.blocks if block.block_type == "text"]
    assert len(texts) == 1
    assert stored.status == watched.status == "cancelled"
    assert paged["stopped"] == [turn_id]
    assert paged["events"] >= 40
    assert paged["texts"] == paged["reloaded"] == joined["texts"] == texts
    assert [block.text_content for block in watched.blocks if block.block_type == "text"] == texts
    assert paged["statuses"] == ["ready", "ready"]
    assert joined["outcome"] == "cancelled"
