"""The page on testing an application: its files are the examples, and its commands run."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.cli.programs import Program, listening

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "how-to" / "test-your-application.md").read_text(encoding="utf-8")
RECORDING = b'data: {"id":"1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def commands(program: str) -> list[list[str]]:
    """The commands of the page that run `program`."""
    split = [shlex.split(block.replace("\\\n", " ")) for block in blocks("sh")]
    return [words[1:] for words in split if words[0] == program]


def test_the_files_are_the_examples():
    names = ["assistant.py", "conftest.py", "test_assistant.py"]
    files = [(PROJECT / "examples" / "testing" / name).read_text(encoding="utf-8") for name in names]
    assert blocks("python") == files


def test_every_command_is_run_here():
    assert len(blocks("sh")) == len(commands("turnstream")) + len(commands("curl"))
    assert len(commands("curl")) == 1


@pytest.mark.parametrize("arguments", commands("turnstream"), ids=" ".join)
async def test_a_command_works(tmp_path: Path, arguments):
    (tmp_path / "answer.sse").write_bytes(RECORDING)
    async with Program(*arguments, cwd=tmp_path) as program:
        if "--help" not in arguments:
            await listening(program)
            program.signal(signal.SIGINT)
        ended = await program.ended()
    assert (ended.code, ended.errors) == (0, "")


async def test_the_header_by_curl(tmp_path: Path, simulator_server):
    (arguments,) = commands("curl")
    given = [argument.replace("$URL", simulator_server.url) for argument in arguments]
    async with asyncio.timeout(20):
        curl = await asyncio.create_subprocess_exec("curl", *given, stdout=PIPE)
        output, _ = await curl.communicate()
    assert curl.returncode == 0
    assert b'"content":"Hello "' in output
    assert output.endswith(b"data: [DONE]\n\n")
