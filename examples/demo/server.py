"""The demo's server: the real one, in a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from turnstream.errors import TurnstreamError

MODEL = "upstream/recording"
_LISTENING = re.compile(r"listens on (http://\S+)")
_STOP_SECONDS = 10.0

_CONFIGURATION = """\
[providers.upstream]
wire = "{wire}"
base_url = "{url}"
models = ["recording"]
"""


@asynccontextmanager
async def running_server(folder: Path, wire: str, upstream: str) -> AsyncGenerator[str, None]:
    """Run `turnstream serve` with its database in `folder` and its only provider at `upstream`; gives its
    URL.

    Raises TurnstreamError when it does not come up.
    """
    configuration = folder / "turnstream.toml"
    configuration.write_text(_CONFIGURATION.format(wire=wire, url=upstream), encoding="utf-8")
    log = folder / "server.log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "turnstream.cli.main", "serve", "--port", "0"),
            *("--config", str(configuration), "--database-url", f"sqlite:///{folder}/turns.sqlite"),
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env={name: value for name, value in os.environ.items() if not name.startswith("TURNSTREAM_")},
        )
    reading: asyncio.Task[None] | None = None
    try:
        url = await _address(process)
        if url is None:
            raise TurnstreamError(f"the server did not start: {log.read_text('utf-8', 'replace').strip()}")
        reading = asyncio.create_task(_discard(process))
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
        if reading is not None:
            await reading


async def _address(process: asyncio.subprocess.Process) -> str | None:
    assert process.stdout is not None
    async for line in process.stdout:
        if found := _LISTENING.search(line.decode()):
            return found[1]
    return None


async def _discard(process: asyncio.subprocess.Process) -> None:
    """Read what else the server prints, so that it never waits for us."""
    assert process.stdout is not None
    while await process.stdout.read(64 * 1024):
        pass
