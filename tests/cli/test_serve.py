"""`turnstream serve`: its output and its end."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.cli.programs import Program, listening, run
from turnstream.core.native_fold import TERMINAL_NAMES, NativeFold
from turnstream.core.sse import SseDecoder
from turnstream.simulator.options import SCRIPT_NAMES

SILENT = "sim/story:events=300,pace=0,fault=silence,after=20"
"""A model that says some words, then stays silent."""
CONTENT = ("block_delta", "block_catchup")
WATCH_SECONDS = 30.0


class Watched:
    """The event stream of one turn, as its client sees it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.fold = NativeFold()
        self.names: list[str] = []
        self.notices: list[str] = []
        self._response = response
        self._decoder = SseDecoder(event_limit=1 << 20)

    async def until(self, *names: str) -> None:
        """Read until an event with one of these names, or to the end."""
        async with asyncio.timeout(WATCH_SECONDS):
            while not set(names) & set(self.names):
                data = await self._response.content.readany()
                if not data:
                    return
                for name, body, _ in self._decoder.feed(data):
                    assert name is not None
                    event = msgspec.json.decode(body, type=dict[str, Any])
                    self.fold.feed(name.decode(), event)
                    self.names.append(name.decode())
                    if name == b"notice":
                        self.notices.append(event["code"])


@asynccontextmanager
async def asked(session: aiohttp.ClientSession, server: str, model: str) -> AsyncGenerator[Watched, None]:
    """Start a turn, and watch it."""
    async with session.post(f"{server}/api/chats") as response:
        chat = (await response.json())["id"]
    body = {"model": model, "turn_blocks": [{"block_type": "text", "text_content": "Hello"}]}
    async with session.post(f"{server}/api/chats/{chat}/turns?stream=true", json=body) as response:
        assert response.status == 200
        yield Watched(response)


@pytest.fixture
async def session() -> AsyncGenerator[aiohttp.ClientSession, None]:
    async with aiohttp.ClientSession() as session:
        yield session
    await asyncio.sleep(0)  # the transports' own callbacks


@pytest.mark.requirement("R1")
async def test_it_says_where_it_listens_and_what_is_ready(tmp_path: Path, session: aiohttp.ClientSession):
    async with Program("serve", "--port", "0", cwd=tmp_path) as program:
        url = await listening(program)
        assert f"database   {tmp_path}/turnstream.sqlite" in program.output
        assert "Only the simulated models are ready" in program.output
        assert all(f"sim/{name} " in program.output for name in SCRIPT_NAMES)
        async with session.get(f"{url}/docs") as response:
            assert response.status == 200
        program.signal(signal.SIGINT)
        ended = await program.ended()
    assert ended.code == 0
    assert ended.output.endswith("turnstream stopped\n")


@pytest.mark.requirement("R1")
@pytest.mark.parametrize("key", [None, "a secret of this server"])
async def test_what_it_offers_to_try_works_as_printed(key: str | None, tmp_path: Path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: what `serve` prints to try cannot be tried")
    environ = {"TURNSTREAM_API_KEY": key} if key else {}
    async with Program("serve", "--port", "0", cwd=tmp_path, environ=environ) as program:
        url = await listening(program)
        lines = program.output.splitlines()
        place = next(number for number, line in enumerate(lines) if line.startswith("CHAT="))
        script = "\n".join(lines[place : place + 2])
        assert len(lines[place + 2].strip()) == 0
        shell = await asyncio.create_subprocess_exec(
            "sh",
            "-ec",
            script,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin", **environ},
        )
        output, _ = await asyncio.wait_for(shell.communicate(), 60)
        if key:
            assert key not in program.output
            refused = await run("ask", "Hello", "--url", url, cwd=tmp_path)
            assert "send the server's key" in refused.errors
            assert (await run("ask", "Hello", "--url", url, cwd=tmp_path, environ=environ)).code == 0
    assert shell.returncode == 0
    assert output.count(b"event: turn_complete\n") == 1
    assert b"Hello! " in output


@pytest.mark.requirement("D7", "P5")
async def test_a_stop_lets_running_turns_finish(tmp_path: Path, session: aiohttp.ClientSession):
    async with Program("serve", "--port", "0", cwd=tmp_path) as program:
        url = await listening(program)
        async with asked(session, url, "sim/story:events=60,pace=0.05") as watched:
            await watched.until(*CONTENT)
            program.signal(signal.SIGTERM)
            await watched.until("notice")
            assert watched.notices == ["draining"]
            async with session.post(f"{url}/api/chats") as response:
                chat = (await response.json())["id"]
            body = {"turn_blocks": [{"block_type": "text", "text_content": "Hello"}]}
            async with session.post(f"{url}/api/chats/{chat}/turns", json=body) as response:
                assert response.status == 503
                assert (await response.json())["error"]["code"] == "draining"
                assert response.headers["Retry-After"] == "1"
            async with session.get(f"{url}/api/turns/{watched.fold.turn_id}") as response:
                assert (await response.json())["status"] == "streaming"
            await watched.until(*TERMINAL_NAMES)
            assert watched.fold.ending is not None
            assert watched.fold.ending.name == "turn_complete"
        ended = await program.ended()
    assert ended.code == 0
    assert ended.output.endswith("turnstream stopped\n")
    assert "ERROR" not in ended.errors
    assert "Traceback" not in ended.errors


@pytest.mark.requirement("P5", "J4")
@pytest.mark.parametrize("signals", [1, 2])
async def test_turns_that_do_not_finish_end_with_what_they_have(
    signals: int, tmp_path: Path, session: aiohttp.ClientSession
):
    """A stop by the end of the grace, or by a second signal."""
    grace = "0.5" if signals == 1 else "600"
    arguments = ("serve", "--port", "0", "--drain-seconds", grace)
    async with Program(*arguments, cwd=tmp_path) as program:
        url = await listening(program)
        async with asked(session, url, SILENT) as watched:
            await watched.until(*CONTENT)
            for _ in range(signals):
                program.signal(signal.SIGTERM)
                await watched.until("notice")
            await watched.until(*TERMINAL_NAMES)
            assert watched.fold.ending is not None
            assert watched.fold.ending.name == "turn_error"
            assert watched.fold.ending.data["code"] == "server_shutdown"
        ended = await program.ended()
    assert ended.code == 0
    assert "Traceback" not in ended.errors
    async with Program("serve", "--port", "0", cwd=tmp_path) as program:
        url = await listening(program)
        async with session.get(f"{url}/api/turns/{watched.fold.turn_id}") as response:
            turn = await response.json()
    assert turn["status"] == "error"
    (block,) = turn["blocks"]
    assert block["partial"] is True
    assert block["text_content"] == watched.fold.blocks[0].text_content


async def test_one_database_has_one_server(tmp_path: Path):
    async with Program("serve", "--port", "0", cwd=tmp_path) as program:
        await listening(program)
        for command in (("serve", "--port", "0"), ("db", "upgrade")):
            ended = await run(*command, cwd=tmp_path)
            assert ended.code == 1
            assert f"another process (pid {program.process.pid})" in ended.errors
            assert "sqlite:///OTHER/PATH" in ended.errors
            assert "listens" not in ended.output


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_nobody_else_is_served_without_a_key(host: str, tmp_path: Path):
    ended = await run("serve", "--port", "0", "--host", host, cwd=tmp_path)
    assert ended.code == 2
    assert f"refusing to listen on {host} without a key" in ended.errors
    assert "TURNSTREAM_API_KEY" in ended.errors
    assert len(ended.errors.splitlines()) == 1


async def test_settings_come_from_the_file_and_flags_win(tmp_path: Path):
    (tmp_path / "other.toml").write_text(
        '[server]\nport = 1\n[engine]\ndefault_model = "sim/echo"\n[store]\nurl = "sqlite:///elsewhere/t.sqlite"\n'
    )
    async with Program("serve", "--port", "0", "--config", "other.toml", cwd=tmp_path) as program:
        assert not (await listening(program)).endswith(":1")
        assert f"database   {tmp_path}/elsewhere/t.sqlite" in program.output
        assert re.search(r"sim/echo +anthropic +default", program.output)


STUBBORN = """
import asyncio

async def stubborn() -> str:
    '''Wait.'''
    print("the tool runs", flush=True)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
"""


@pytest.mark.fault(44)
async def test_a_tool_that_swallows_cancellation_does_not_hold_up_the_end(
    tmp_path: Path, session: aiohttp.ClientSession
):
    (tmp_path / "stubborn_tools.py").write_text(STUBBORN)
    (tmp_path / "turnstream.toml").write_text('[tools]\nfunctions = ["stubborn_tools:stubborn"]\n')
    arguments = ("serve", "--port", "0", "--drain-seconds", "600")
    async with Program(*arguments, cwd=tmp_path, environ={"PYTHONPATH": str(tmp_path)}) as program:
        url = await listening(program)
        async with asked(session, url, "sim/tools:pace=0") as watched:
            await program.until("the tool runs")
            program.signal(signal.SIGTERM)
            await watched.until("notice")
            program.signal(signal.SIGTERM)
            await watched.until(*TERMINAL_NAMES)
            assert watched.fold.ending is not None
            assert watched.fold.ending.data["code"] == "server_shutdown"
        ended = await program.ended()
    assert ended.code == 0
    assert ended.output.endswith("turnstream stopped\n")
    assert "ignore their cancellation" in ended.errors
