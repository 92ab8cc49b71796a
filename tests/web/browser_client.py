"""Builds web/client, and runs cases of it in node against a server of its own."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from asyncio.subprocess import PIPE, STDOUT
from contextlib import AsyncExitStack
from pathlib import Path

from tests.cli.programs import Program, listening

PROJECT = Path(__file__).parents[2]
CLIENT = PROJECT / "web" / "client"
PACKAGES = PROJECT / "web" / "node_modules"
WHEEL = PROJECT / ".tools" / "clients" / "node" / "wheel"
NODE = WHEEL / "bin" / "node"
NPM = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
SECONDS = 120.0
SETTINGS = """
[tools]
builtin = true
functions = ["tests.clients.javascript.server_tools:erase"]
ask = { erase = "always" }
"""


async def run_node(*arguments: str | Path, cwd: Path) -> str:
    """Return the output of a node program. Fails with the output if the program fails."""
    assert NODE.exists(), "no node: `make lint` installs it"
    assert PACKAGES.exists(), "no packages of web: `make lint` installs them"
    environ = {name: value for name, value in os.environ.items() if name != "NODE_OPTIONS"}
    environ["PATH"] = os.pathsep.join((str(NODE.parent), environ["PATH"]))
    process = await asyncio.create_subprocess_exec(
        NODE, *arguments, cwd=cwd, env=environ, stdout=PIPE, stderr=STDOUT
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
    return output.decode()


def copy_client(folder: Path) -> Path:
    """Return a copy of the client, with its packages. Two builds of one folder would collide."""
    copy = folder / "web" / "client"
    shutil.copytree(CLIENT, copy, ignore=shutil.ignore_patterns("dist", "node_modules"))
    shutil.copy(CLIENT.parent / "tsconfig.base.json", copy.parent)
    (copy.parent / "node_modules").symlink_to(PACKAGES, target_is_directory=True)
    return copy


async def build_client(folder: Path) -> Path:
    """Return a folder below `folder` with the client's built files."""
    copy = copy_client(folder)
    await run_node(PACKAGES / "vite" / "bin" / "vite.js", "build", "--logLevel", "error", cwd=copy)
    return copy / "dist"


async def run_case(script: Path, name: str, client: Path, folder: Path) -> None:
    """Run one case of a script against a server of its own, with its database in `folder`.

    The case may print `kill`: then the server is killed and started again. It reads a line once it is back.
    """
    (folder / "turnstream.toml").write_text(SETTINGS)
    serve = ("serve", "--database-url", f"sqlite:///{folder / 'turns.sqlite'}", "--port")
    environ = {"PYTHONPATH": str(PROJECT)}
    async with AsyncExitStack() as servers:
        server = await servers.enter_async_context(Program(*serve, "0", cwd=folder, environ=environ))
        found = re.search(r":(\d+)", await listening(server))
        assert found is not None
        port = found[1]
        node = await asyncio.create_subprocess_exec(
            NODE,
            "--experimental-eventsource",
            "--no-warnings",
            script,
            name,
            client,
            port,
            cwd=folder,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
        )
        assert node.stdout is not None
        assert node.stderr is not None
        assert node.stdin is not None
        try:
            async with asyncio.timeout(SECONDS):
                while line := await node.stdout.readline():
                    assert line == b"kill\n", line
                    server.process.kill()
                    await server.process.wait()
                    again = Program(*serve, port, cwd=folder, environ=environ)
                    server = await servers.enter_async_context(again)
                    await listening(server)
                    node.stdin.write(b"\n")
                errors = await node.stderr.read()
                assert await node.wait() == 0, errors.decode()
        finally:
            if node.returncode is None:
                node.kill()
                await node.wait()
