"""Pages of the AI SDK and of AG-UI whose server drains: each ends with what is stored."""

from __future__ import annotations

import asyncio
import json
import os
import re
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest

from tests.cli.programs import Program, listening
from tests.clients.javascript.witnesses import CLIENTS, NODE, SECONDS
from tests.server.live import Client


@asynccontextmanager
async def drained(
    environment: str, script: str, path: str, folder: Path, *, grace: str
) -> AsyncGenerator[tuple[dict[str, Any], Client], None]:
    """Run a script of this folder, and stop and restart its server when the script asks.

    Yield what the script printed, and a client of the second server, which still runs.
    """
    database = f"sqlite:///{folder / 'chats.sqlite'}"
    serve = ("serve", "--database-url", database, "--drain-seconds", grace, "--port")
    async with AsyncExitStack() as servers:
        server = await servers.enter_async_context(Program(*serve, "0", cwd=folder))
        found = re.search(r":(\d+)", await listening(server))
        assert found is not None
        port = found[1]
        node = await asyncio.create_subprocess_exec(
            NODE,
            "--input-type=module",
            "--eval",
            Path(__file__).with_name(script).read_text(),
            f"http://127.0.0.1:{port}{path}",
            cwd=CLIENTS / environment,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env={name: value for name, value in os.environ.items() if name != "NODE_OPTIONS"},
        )
        assert node.stdin is not None
        assert node.stdout is not None
        try:
            async with asyncio.timeout(SECONDS):
                while "do" in (said := json.loads(await node.stdout.readline() or await _failure(node))):
                    if said["do"] == "drain":
                        server.signal(SIGTERM)
                    else:
                        assert (await server.ended()).code == 0
                        server = await servers.enter_async_context(Program(*serve, port, cwd=folder))
                        await listening(server)
                    node.stdin.write(b"\n")
                assert await node.wait() == 0
        finally:
            if node.returncode is None:
                node.kill()
                await node.wait()
        yield said, Client(int(port))


async def _failure(node: asyncio.subprocess.Process) -> bytes:
    assert node.stderr is not None
    raise AssertionError((await node.stderr.read()).decode())


async def stored(client: Client, turn_id: str) -> tuple[str, str]:
    """The status of a turn, and its text."""
    turn = (await client.call("GET", f"/turns/{turn_id}")).json
    return turn["status"], "".join(block["text_content"] or "" for block in turn["blocks"])


@pytest.mark.requirement("N3", "P5")
@pytest.mark.parametrize("major", [5, 6, 7], ids=lambda major: f"ai {major}")
async def test_a_page_of_the_ai_sdk_is_cut_and_reconnects_to_the_whole_answer(
    major: int, tmp_path: Path
) -> None:
    path = "/api/ai-sdk/chat" if major == 5 else f"/api/ai-sdk/v{major}/chat"
    running = drained(f"ai-sdk-{major}", "ai_sdk_draining.mjs", path, tmp_path, grace="20")
    async with running as (outcomes, client):
        for cut, answer in zip(outcomes["cut"], outcomes["answers"], strict=True):
            assert (cut["status"], cut["errors"], cut["notices"]) == ("error", 1, ["draining"])
            assert (answer["status"], answer["errors"], answer["answers"]) == ("ready", 1, 1)
            assert await stored(client, answer["id"]) == ("complete", answer["text"])
            assert answer["text"].startswith(cut["text"])
            assert len(cut["text"]) < len(answer["text"])


@pytest.mark.requirement("N4", "P5")
async def test_a_run_of_ag_ui_ends_with_the_stored_answer_or_its_error(tmp_path: Path) -> None:
    running = drained("ag-ui", "ag_ui_draining.mjs", "/api/ag-ui", tmp_path, grace="5")
    async with running as (outcomes, client):
        for in_time, too_long in (outcomes["first"], outcomes["again"]):
            assert (in_time["errors"], in_time["outcomes"]) == ([], ["success"])
            assert await stored(client, in_time["turn"]) == ("complete", in_time["text"])
            assert (too_long["errors"], too_long["outcomes"]) == (["server_shutdown"], [])
            assert await stored(client, too_long["turn"]) == ("error", too_long["text"])
        assert [outcome["notices"] for outcome in outcomes["first"]] == [["draining"], ["draining"]]
