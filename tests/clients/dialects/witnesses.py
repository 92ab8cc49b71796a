"""Runs the cases of a client against a server of its own, and reads what the server has stored."""

from __future__ import annotations

import asyncio
import json
import os
import re
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from tests.cli.cutting_proxy import CuttingProxy
from tests.cli.programs import Program, listening
from tests.clients.running import PROJECT, python_of

NODE = PROJECT / ".tools" / "clients" / "node" / "wheel" / "bin" / "node"
SECONDS = 90.0
SETTINGS = """
[tools]
builtin = true
"""
CUTS = (100, 400, 900, 1600, 2600)
"""Bytes of an answer, with its headers, after which a connection is cut."""


class StoredTurn(NamedTuple):
    """A turn as turnstream's own API gives it."""

    status: str
    blocks: list[dict[str, Any]]
    raw: dict[str, Any]


class Witness(NamedTuple):
    """The outcomes of a client's cases, and the chats that the server has stored.

    Attributes:
        outcomes: Outcomes by the name of the case.
        chats: The turns of each chat, the oldest first.
    """

    outcomes: dict[str, Any]
    chats: list[list[StoredTurn]]

    def chats_of(self, case: str) -> list[list[StoredTurn]]:
        """Return the chats that begin with the question of a case."""
        return [turns for turns in self.chats if _text_of(turns[0]) == f"question of {case}"]

    def answers_of(self, case: str) -> list[StoredTurn]:
        """Return the answers of the only chat of a case."""
        (turns,) = self.chats_of(case)
        return [turn for turn in turns if turn.raw["role"] == "assistant"]


def _text_of(turn: StoredTurn) -> str:
    texts = [block["text_content"] for block in turn.blocks if block["block_type"] == "text"]
    return texts[0] if texts else ""


async def run_cases(
    script: str, environment: str, folder: Path, *, settings: str = SETTINGS, cuts: Sequence[int] = CUTS
) -> Witness:
    """Run a script of this folder in a client's environment, against a server.

    Args:
        script: A program in Python, or in JavaScript, which runs in the folder of its packages.
        environment: Name of the environment below `.tools/clients`.
        folder: Working directory of the server.
        cuts: Limits of the proxies that the script may use.
    """
    (folder / "turnstream.toml").write_text(settings)
    serve = ("serve", "--database-url", f"sqlite:///{folder / 'witness.sqlite'}", "--port", "0")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            Program(*serve, cwd=folder, environ={"PYTHONPATH": str(PROJECT)})
        )
        found = re.search(r"http://[\d.]+:(\d+)", await listening(server))
        assert found is not None
        url, port = found[0], int(found[1])
        proxies = [
            await stack.enter_async_context(CuttingProxy(("127.0.0.1", port), [limit])) for limit in cuts
        ]
        arguments = [url, *(proxy.url for proxy in proxies)]
        outcomes = await outcomes_of(str(Path(__file__).with_name(script)), environment, arguments)
        return Witness(outcomes, await stored_chats(url))


async def outcomes_of(
    script: str, environment: str, arguments: Sequence[str] = (), *, given: bytes = b""
) -> dict[str, Any]:
    """Run a script in a client's environment. Return its outcomes by the name of the case.

    Args:
        script: Path of the script.
        given: Bytes for its standard input.
    """
    process = await asyncio.create_subprocess_exec(
        *_command(Path(script), environment),
        *arguments,
        cwd=PROJECT / ".tools" / "clients" / environment,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        limit=16 * 1024 * 1024,
        env=_environ(os.environ),
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, errors = await process.communicate(given)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"after {output[-300:]!r}: {errors.decode()}"
    said = [json.loads(line) for line in output.splitlines()]
    return {line["name"]: line["outcome"] for line in said}


def _command(script: Path, environment: str) -> list[str | Path]:
    if script.suffix == ".mjs":  # the packages are found from the working directory
        return [NODE, "--input-type=module", "--eval", script.read_text()]
    return [python_of(environment), script]


def _environ(given: Mapping[str, str]) -> dict[str, str]:
    hidden = ("PYTHON", "NODE_OPTIONS")
    return {name: value for name, value in given.items() if not name.startswith(hidden)}


async def stored_chats(url: str) -> list[list[StoredTurn]]:
    """Return the turns of each chat that a server has stored, the oldest first."""
    async with aiohttp.ClientSession(f"{url}/api/") as session:
        chats: list[list[StoredTurn]] = []
        before = ""
        while True:
            async with session.get(f"chats?limit=100{before}") as answer:
                page = await answer.json()
            for chat in page["chats"]:
                async with session.get(f"chats/{chat['id']}/turns?limit=100") as answer:
                    turns = (await answer.json())["turns"]
                chats.append([await _turn(session, turn["id"]) for turn in turns])
            if page["next"] is None:
                return chats
            before = f"&before={page['next']}"


async def _turn(session: aiohttp.ClientSession, turn_id: str) -> StoredTurn:
    """Return a turn after its end: a turn whose client has left may still be ending."""
    async with session.get(f"turns/{turn_id}/stream") as answer:
        await answer.read()
    async with session.get(f"turns/{turn_id}") as answer:
        turn = await answer.json()
    return StoredTurn(turn["status"], turn["blocks"], turn)
