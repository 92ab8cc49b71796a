"""The examples of the page on testing an application, run as a reader would run them."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

from tests.clients.running import PROJECT, SECONDS, python_of


async def test_the_examples_pass(tmp_path: Path):
    folder = shutil.copytree(PROJECT / "examples" / "testing", tmp_path / "testing")
    search = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST"))}
    process = await asyncio.create_subprocess_exec(
        python_of("openai"), "-m", "pytest", "-q",
        cwd=folder, env={**environ, "PATH": search}, stdout=PIPE, stderr=STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(SECONDS):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
    assert b"5 passed" in output
