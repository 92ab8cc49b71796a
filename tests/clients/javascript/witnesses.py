"""Runs the cases of a JavaScript client against a server of its own, and reads what the server has stored."""

from __future__ import annotations

import asyncio
import json
import os
import re
from asyncio.subprocess import PIPE
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from tests.cli.programs import Program, listening
from tests.clients.running import PROJECT
from tests.turns.tools.asking import expire_approvals

CLIENTS = PROJECT / ".tools" / "clients"
NODE = CLIENTS / "node" / "wheel" / "bin" / "node"
SECONDS = 90.0
SETTINGS = """
[tools]
builtin = true
functions = ["tests.clients.javascript.server_tools:erase"]
ask = { erase = "always" }
"""


def _turns_of_pages(outcomes: dict[str, Any]) -> dict[str, str]:
    return {message["id"]: message["metadata"]["turnId"] for message in messages_of(outcomes)}


async def run_cases(
    environment: str,
    script: str,
    path: str,
    folder: Path,
    *arguments: str,
    settings: str = SETTINGS,
    turns_of: Callable[[dict[str, Any]], dict[str, str]] = _turns_of_pages,
) -> dict[str, Any]:
    """Run a script of this folder in a client's environment. Return the outcome of each of its cases.

    `stored` is one more outcome: the stored parts of each shown message, by the message's id.

    Args:
        environment: Folder below `tests/clients/javascript`, which names the client's packages.
        path: The path of the endpoint that the client talks to.
        folder: The working directory of the server.
        arguments: Arguments of the script, before the address and the port.
        turns_of: Returns the last turn of each shown message, by the id of the message's first turn.
    """
    (folder / "turnstream.toml").write_text(settings)
    serve = ("serve", "--database-url", f"sqlite:///{folder / 'witness.sqlite'}", "--port")
    environ = {"PYTHONPATH": str(PROJECT)}
    async with AsyncExitStack() as servers:
        server = await servers.enter_async_context(Program(*serve, "0", cwd=folder, environ=environ))
        url = await listening(server)
        found = re.search(r":(\d+)", url)
        assert found is not None, url
        port = found[1]
        node = await asyncio.create_subprocess_exec(
            NODE,
            "--input-type=module",
            "--eval",
            "".join(Path(__file__).with_name(name).read_text() for name in ("cutting.mjs", script)),
            *arguments,
            f"http://127.0.0.1:{port}{path}",
            port,
            cwd=CLIENTS / environment,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=16 * 1024 * 1024,
            env={name: value for name, value in os.environ.items() if name != "NODE_OPTIONS"},
        )
        assert node.stdout is not None
        assert node.stdin is not None
        outcomes: dict[str, Any] = {}
        try:
            async with asyncio.timeout(SECONDS):
                while line := await node.stdout.readline():
                    said = json.loads(line)
                    match said.get("do"):
                        case "kill":
                            server.process.kill()
                            await server.process.wait()
                            again = Program(*serve, port, cwd=folder, environ=environ)
                            server = await servers.enter_async_context(again)
                            await listening(server)
                            node.stdin.write(b"\n")
                        case "expire":
                            expire_approvals(folder / "witness.sqlite")
                            node.stdin.write(b"\n")
                        case _:
                            outcomes[said["name"]] = said["outcome"]
                await _ended(node, outcomes)
                outcomes["stored"] = await _stored(port, turns_of(outcomes))
        finally:
            if node.returncode is None:
                node.kill()
                await node.wait()
    return outcomes


async def _ended(node: asyncio.subprocess.Process, outcomes: dict[str, Any]) -> None:
    assert node.stderr is not None
    errors = await node.stderr.read()
    assert await node.wait() == 0, f"after {list(outcomes)}: {errors.decode()}"


def messages_of(outcome: Any) -> Iterator[dict[str, Any]]:
    """Yield the assistant's messages that a case shows, wherever they are in its outcome."""
    if isinstance(outcome, list):
        for one in outcome:
            yield from messages_of(one)
    elif isinstance(outcome, dict):
        if outcome.get("role") == "assistant":
            yield outcome
        else:
            for one in outcome.values():
                yield from messages_of(one)


async def _stored(port: str, shown: dict[str, str]) -> dict[str, Any]:
    """Return the stored parts of each shown message, by its id."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        return {first: await _chain(session, first, last) for first, last in shown.items()}


async def _chain(session: aiohttp.ClientSession, first: str, last: str) -> dict[str, Any]:
    turns: list[dict[str, Any]] = []
    turn_id: str | None = last
    while turn_id is not None:
        async with session.get(f"/api/turns/{turn_id}") as answer:
            assert answer.status == 200, await answer.text()
            turns.insert(0, await answer.json())
        turn_id = None if turn_id == first else turns[0]["prev_turn_id"]
    blocks = [block for turn in turns for block in turn["blocks"]]
    return {
        "status": turns[-1]["status"],
        "asked_by": turns[0]["prev_turn_id"],
        "parts": list(_parts(blocks)),
        "question": await _question(session, turns),
    }


async def _question(session: aiohttp.ClientSession, turns: list[dict[str, Any]]) -> list[str]:
    async with session.get(f"/api/turns/{turns[0]['prev_turn_id']}") as answer:
        return [block["block_type"] for block in (await answer.json())["blocks"]]


def _parts(blocks: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    results = {
        block["content"]["tool_use_id"]: block["content"]
        for block in blocks
        if block["block_type"] == "tool_result"
    }
    for block in blocks:
        content = block["content"] or {}
        match block["block_type"]:
            case "text" | "thinking" as kind:
                yield kind, block["text_content"]
            case "tool_use":
                result = results.get(content["tool_use_id"], {})
                is_error = bool(result.get("is_error"))
                yield "tool", content["tool_name"], content["input"], is_error, result.get("content")
            case _:
                pass
