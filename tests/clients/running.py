"""Runs a client's script in the client's own environment."""

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
    """The interpreter of a client's environment."""
    python = PROJECT / ".tools" / "clients" / name / "bin" / "python"
    assert python.exists(), f"no environment for the client {name}: `make test-clients` makes it"
    return python


async def accumulate(
    name: str, url: str, model: str, *, tools: bool = False, patience: float = 20
) -> dict[str, Any]:
    """What the client makes of the model's answer: `{text, thinking, calls, usage, stop_reason, error}`.

    `patience`: seconds that the client waits for the next bytes.
    """
    asked = json.dumps({"url": url, "model": model, "tools": tools, "timeout": patience})
    return json.loads(await _run(name, f"{name}_client.py", asked))


async def make_calls(name: str, url: str, calls: Sequence[dict[str, Any]]) -> None:
    """Make each of `calls` with the client; see `sdk_requests`."""
    await _run(name, "sdk_requests.py", name, url, said=json.dumps(calls).encode())


async def _run(name: str, script: str, *arguments: str, said: bytes = b"") -> bytes:
    """What a script prints in the client's environment, when it is told `said`."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    process = await asyncio.create_subprocess_exec(
        python_of(name),
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
