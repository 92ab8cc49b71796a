"""The package `@turnstream/client` as an application installs it: its size, its example, and its types."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from tests.cli.programs import Program, listening
from tests.web.browser_client import CLIENT, NPM, PACKAGES, copy_client, run_node

ENTRIES = {"chat": 2_000, "live": 2_000, "event-source": 1_000, "react": 2_200}
"""Bytes of each entry, gzipped, in addition to those of the main entry."""
TYPES = """
import { blocksOf, createTurnstream, type Block, type TurnEvent } from "@turnstream/client";
import { ChatStore } from "@turnstream/client/chat";
import { eventSourceReader } from "@turnstream/client/event-source";
import { LiveEvents } from "@turnstream/client/live";
import { useTurn } from "@turnstream/client/react";

const turnstream = createTurnstream({ retry: { budget: 1000 } });
export const blocks: readonly Block[] = blocksOf(turnstream.turn("t").state);
export const end = (event: TurnEvent): string | null => (event.type === "turn_complete" ? event.stop_reason : null);
export const stores = [new ChatStore(turnstream, null), new LiveEvents(turnstream), eventSourceReader([]), useTurn];
"""
WRONG = 'import { createTurnstream } from "@turnstream/client";\ncreateTurnstream({ baseUrl: 7 });\n'


@pytest.fixture
async def application(tmp_path: Path) -> Path:
    """A folder with the packed client installed, without a network."""
    await run_node(NPM, "pack", "--pack-destination", tmp_path, "--silent", cwd=copy_client(tmp_path))
    archive = tmp_path / "turnstream-client-0.1.0.tgz"
    folder = tmp_path / "application"
    folder.mkdir()
    (folder / "package.json").write_text('{"type": "module", "private": true}')
    await run_node(NPM, "install", "--offline", "--no-audit", "--no-fund", "--silent", archive, cwd=folder)
    return folder


def entry_bytes(package: Path, entry: str) -> bytes:
    """Return the built file of an entry with all files that it imports."""
    names, text = [entry], {}
    while names:
        name = names.pop()
        if name not in text:
            text[name] = (package / "dist" / name).read_text("utf-8")
            names += re.findall(r'from"\./([^"]+)"', text[name])
    return "".join(text.values()).encode()


def example() -> str:
    found = re.search(r"```ts\n(.*?)```", (CLIENT / "README.md").read_text("utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


async def check_types(application: Path, *options: str) -> None:
    compiler = PACKAGES / "typescript" / "bin" / "tsc"
    plain = ("--noEmit", "--strict", "--target", "es2022", "--ignoreConfig")
    await run_node(compiler, *plain, *options, "check.ts", cwd=application)


@pytest.mark.requirement("M1")
async def test_an_application_installs_and_runs_it(application: Path, tmp_path: Path) -> None:
    package = application / "node_modules" / "@turnstream" / "client"
    assert not (package / "src").exists()
    main = entry_bytes(package, "index.js")
    assert len(gzip.compress(main, 9)) < 8_000
    for entry, limit in ENTRIES.items():
        whole = entry_bytes(package, f"{entry.replace('-', '_')}.js")
        assert len(gzip.compress(main + whole, 9)) - len(gzip.compress(main, 9)) < limit, entry
    async with Program(
        "serve", "--port", "0", "--database-url", f"sqlite:///{tmp_path / 'turns.sqlite'}", cwd=tmp_path
    ) as server:
        url = await listening(server)
        text = example()
        assert len(text.strip().splitlines()) <= 10
        (application / "example.js").write_text(text.replace("http://127.0.0.1:8089", url))
        output = await run_node("example.js", cwd=application)
    assert "Why is the sky blue?" in output
    assert output.splitlines()[-1] == "complete 1"


async def test_its_types_resolve(application: Path) -> None:
    (application / "check.ts").write_text(TYPES)
    await check_types(application, "--module", "nodenext")
    await check_types(application, "--module", "esnext", "--moduleResolution", "bundler")
    (application / "check.ts").write_text(WRONG)
    with pytest.raises(AssertionError, match="TS2322"):
        await check_types(application, "--module", "nodenext")
