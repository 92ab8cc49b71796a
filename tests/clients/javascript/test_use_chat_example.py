"""The example with `useChat` type-checks and builds with its pinned packages."""

from __future__ import annotations

import asyncio
import os
import shutil
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

from tests.clients.javascript.witnesses import CLIENTS, NODE
from tests.clients.running import PROJECT, SECONDS

NPM = NODE.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


async def build(page: Path) -> tuple[int | None, str]:
    """Return the exit status and the output of `npm run build`."""
    search = os.pathsep.join((str(NODE.parent), os.environ["PATH"]))
    process = await asyncio.create_subprocess_exec(
        NODE, NPM, "run", "build", cwd=page, env={**os.environ, "PATH": search}, stdout=PIPE, stderr=STDOUT
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode()


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A copy of the example, with the packages that `make test-clients` has installed."""
    made = shutil.ignore_patterns("node_modules", "dist")
    folder = shutil.copytree(PROJECT / "examples" / "use_chat", tmp_path / "use_chat", ignore=made)
    packages = CLIENTS / "use_chat" / "node_modules"
    assert packages.exists(), "no packages of the example: `make test-clients` installs them"
    (folder / "node_modules").symlink_to(packages, target_is_directory=True)
    return folder


@pytest.mark.requirement("N3")
async def test_the_page_type_checks_and_builds(page: Path) -> None:
    status, output = await build(page)
    assert status == 0, output
    (script,) = (page / "dist" / "assets").glob("*.js")
    assert "/api/ai-sdk/v7/chat" in script.read_text("utf-8")


async def test_a_wrong_type_fails_the_build(page: Path) -> None:
    source = page / "src" / "message.tsx"
    text = source.read_text("utf-8")
    assert "approved: true" in text
    source.write_text(text.replace("approved: true", "approved: 1"), "utf-8")
    status, output = await build(page)
    assert status != 0
    assert "TS2322" in output
