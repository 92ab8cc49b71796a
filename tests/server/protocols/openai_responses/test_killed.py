"""A server is killed within a response. Its successor ends the stream, and never splices it."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

import pytest

from tests.cli.programs import Program, listening
from tests.dialects.response_fold import ResponseFold
from tests.server.live import SECONDS, Client, read_chunks, read_head
from tests.server.protocols.openai_responses.world import RESPONSES, asked, text_of


async def client_of(server: Program) -> Client:
    found = re.search(r":(\d+)", await listening(server))
    assert found is not None
    return Client(int(found[1]), prefix="/v1")


async def read_until(client: Client, fold: ResponseFold, deltas: int, server: Program) -> None:
    """Read a new response up to a number of deltas, then kill its server."""
    body = asked("one", "sim/story:events=100000,pace=0.002", stream=True)
    async with asyncio.timeout(SECONDS):
        reader, writer = await client.open("POST", RESPONSES, body)
        _, headers = await read_head(reader)
        async for chunk in read_chunks(reader, headers):
            fold.receive(chunk)
            if fold.deltas >= deltas:
                break
        server.signal(signal.SIGKILL)
        writer.close()
        await server.process.wait()
    fold.cut()


@pytest.mark.requirement("N5", "P2", "P5")
@pytest.mark.parametrize("deltas", [1, 120])
async def test_a_stream_of_a_killed_server_resumes_at_its_successor(tmp_path: Path, deltas: int) -> None:
    serve = ("serve", "--database-url", f"sqlite:///{tmp_path / 'killed.sqlite'}", "--port", "0")
    fold = ResponseFold()
    async with Program(*serve, cwd=tmp_path) as server:
        await read_until(await client_of(server), fold, deltas, server)
    async with Program(*serve, cwd=tmp_path) as successor:
        client = await client_of(successor)
        path = f"{RESPONSES}/{fold.identity}"
        rest = await client.call("GET", f"{path}?stream=true&starting_after={fold.last}")
        fold.receive(rest.body)
        stored = (await client.call("GET", path)).json
    assert fold.end == "response.failed"
    assert fold.response == stored
    assert stored["status"] == "failed"
    assert stored["error"]["code"] == "orphaned"
    said, kept = "".join(fold.texts.values()), text_of(stored)
    assert said.startswith(kept)  # the client may have a tenth of a second more than was kept
