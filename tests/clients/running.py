"""Runs a client's script in the client's environment."""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
SECONDS = 60.0


def python_of(name: str) -> Path:
    """Return the interpreter of a client's environment."""
    python = PROJECT / ".tools" / "clients" / name / "bin" / "python"
    assert python.exists(), f"no environment for the client {name}: `make test-clients` makes it"
    return python


async def accumulate(
    name: str,
    url: str,
    model: str,
    *,
    tools: bool = False,
    patience: float = 20,
    environment: str | None = None,
) -> dict[str, Any]:
    """Return the client's reading of the answer: `{text, thinking, calls, usage, stop_reason, error}`.

    `patience`: seconds that the client waits for the next bytes. `environment`: the client's environment,
    if it does not have the client's name.
    """
    asked = json.dumps({"url": url, "model": model, "tools": tools, "timeout": patience})
    script = f"{name.replace('-', '_')}_client.py"
    return json.loads(await _run(environment or name, script, asked))


async def make_calls(name: str, url: str, calls: Sequence[dict[str, Any]], *, environment: str) -> None:
    """Make each of `calls` with the client; see `sdk_requests`. `environment`: where the client is."""
    await _run(environment, "sdk_requests.py", name, url, said=json.dumps(calls).encode())


async def _run(environment: str, script: str, *arguments: str, said: bytes = b"") -> bytes:
    """Return the output of a script in a client's environment, with `said` on its standard input."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    process = await asyncio.create_subprocess_exec(
        python_of(environment),
        Path(__file__).with_name(script),
        *arguments,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=environ,
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, errors = await process.communicate(said)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return output
