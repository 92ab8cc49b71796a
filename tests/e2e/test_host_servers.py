"""Host applications on uvicorn, gunicorn, hypercorn and granian end at once while an answer streams."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import socket
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cli.programs import Program
from tests.server.live import Client

logger = logging.getLogger(__name__)

SECONDS = 30.0
END_SECONDS = 10.0
"""Bound on the end of a stream and of a process. The answer would last for ten minutes."""
LONG = "sim/story:events=6000,pace=0.1"
APPLICATION = """\
import os
from contextlib import asynccontextmanager

from fastapi import FastAPI

from turnstream import Engine

engine = Engine("sqlite:///../chats.sqlite", drain_seconds=float(os.environ.get("DRAIN_SECONDS", "0")))


@asynccontextmanager
async def lifespan(app):
    async with engine:
        yield


app = FastAPI(lifespan=lifespan)
app.include_router(engine.router("/llm", protocols=["native", "ai_sdk"]))
"""

HOW_TO = (Path(__file__).parents[2] / "docs/how-to/embed-in-fastapi.md").read_text(encoding="utf-8")
GUNICORN_SETTINGS = next(
    block for block in re.findall(r"```py\n(.*?)```", HOW_TO, re.DOTALL) if "def worker_int" in block
)
"""`gunicorn.conf.py` of the how-to page. gunicorn reads it from the working directory."""

UVICORN = ("uvicorn", "app:app", "--fd={socket}")
GUNICORN = ("gunicorn", "--worker-class=uvicorn_worker.UvicornWorker", "--bind=fd://{socket}", "app:app")
GUNICORN_ASGI = ("gunicorn", "--worker-class=asgi", "--bind=fd://{socket}", "app:app")
HYPERCORN = ("hypercorn", "--workers=0", "--bind=fd://{socket}", "app:app")
HYPERCORN_WORKER = ("hypercorn", "--graceful-timeout=0", "--bind=fd://{socket}", "app:app")
GRANIAN = ("granian", "--interface=asgi", "--loop=asyncio", "--port={port}", "app:app")
RELOADING = {
    UVICORN: ("--reload",),
    GUNICORN: ("--reload",),
    GUNICORN_ASGI: ("--reload",),
    HYPERCORN_WORKER: ("--reload",),
    GRANIAN: ("--reload", "--reload-paths=."),
}
SERVERS = {
    "uvicorn": UVICORN,
    "gunicorn": GUNICORN,
    "gunicorn-asgi": GUNICORN_ASGI,
    "hypercorn": HYPERCORN,
    "hypercorn-worker": HYPERCORN_WORKER,
    "granian": GRANIAN,
}


class Host:
    """A server with the application in a folder of its own. It runs inside the context manager."""

    def __init__(
        self, command: tuple[str, ...], folder: Path, *, reload: bool = False, drain: str = "0"
    ) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))  # connections queue until they are served
        port = self._listener.getsockname()[1]
        (folder / "source").mkdir()
        self.file = folder / "source" / "app.py"
        self.file.write_text(APPLICATION, encoding="utf-8")
        self._database = folder / "chats.sqlite"
        (folder / "source" / "gunicorn.conf.py").write_text(GUNICORN_SETTINGS, encoding="utf-8")
        self._binds_itself = command is GRANIAN
        command += RELOADING[command] if reload else ()
        module, *arguments = (part.format(port=port, socket=self._listener.fileno()) for part in command)
        self._program = Program(
            *arguments,
            module=module,
            cwd=self.file.parent,
            environ={"PYTHONPATH": str(self.file.parent), "DRAIN_SECONDS": drain},
            own_group=True,
            pass_fds=() if self._binds_itself else [self._listener.fileno()],
        )
        self._client = Client(port, {}, "/llm")
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Program:
        if self._binds_itself:
            self._listener.close()
        await self._program.__aenter__()
        if self._binds_itself:
            await self._until_it_listens()
        return self._program

    async def __aexit__(self, *error: Any) -> None:
        self._listener.close()
        for writer in self._writers:
            writer.close()
        await self._program.__aexit__(*error)

    async def _until_it_listens(self) -> None:
        async with asyncio.timeout(SECONDS):
            while True:
                with socket.socket() as trial:
                    if trial.connect_ex(("127.0.0.1", self._client.port)) == 0:
                        return
                await asyncio.sleep(0.05)  # the server reports its start before it listens

    async def open_stream(self) -> asyncio.StreamReader:
        """Start an answer, and return its stream after the first text. Retry until a worker accepts it."""
        body = {"turn_blocks": [{"block_type": "text", "text_content": "hi"}], "model": LONG}
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    chat = (await self._client.call("POST", "/chats")).json["id"]
                    return await self.post(f"/chats/{chat}/turns?stream=true", body, b"event: block_delta")
                except (OSError, asyncio.IncompleteReadError):
                    await asyncio.sleep(0.05)  # no worker listens, or it is still the old one

    async def post(self, path: str, body: dict[str, Any], until: bytes) -> asyncio.StreamReader:
        """Return the answer to a request after the first `until` in its body."""
        reader, writer = await self._client.open("POST", path, body)
        self._writers.append(writer)
        async with asyncio.timeout(SECONDS):
            await reader.readuntil(until)
        return reader

    def stored(self) -> list[tuple[str, str | None]]:
        """Return status and error of the answers, as the database has them."""
        with closing(sqlite3.connect(self._database)) as database:
            return database.execute(
                "SELECT status, error_code FROM turnstream_turns WHERE role = 'assistant'"
            ).fetchall()


async def rest_of(reader: asyncio.StreamReader) -> list[str]:
    """Return the names of the remaining events, in order. The last one is `cut` if the body has no end."""
    rest = b""
    async with asyncio.timeout(END_SECONDS):
        with suppress(ConnectionError):
            while piece := await reader.read(65536):
                rest += piece
    events = re.findall(r"^event: (\w+)", rest.decode(), re.MULTILINE)
    return events if rest.endswith(b"0\r\n\r\n") else [*events, "cut"]


def check_end(command: tuple[str, ...], events: list[str]) -> None:
    """Check that the stream has the turn's end, or an event that says that its server stops."""
    if command == HYPERCORN_WORKER:
        assert events[-2:] == ["notice", "cut"]
    else:
        assert events[-1] == "turn_error"
        assert "notice" in events


@pytest.mark.requirement("R5")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("command", SERVERS.values(), ids=SERVERS)
async def test_a_signal_ends_streams_with_their_event_and_then_the_process(
    command: tuple[str, ...], how: signal.Signals, tmp_path: Path
) -> None:
    host = Host(command, tmp_path)
    async with host as program:
        reader = await host.open_stream()
        begun = time.monotonic()
        if how == signal.SIGINT:
            program.signal_group(how)  # as a terminal does
        else:
            program.signal(how)
        events = await rest_of(reader)
        closed = time.monotonic() - begun
        await program.ended(END_SECONDS)
    ended = time.monotonic() - begun
    logger.info("%s, %s: the stream took %.2f s, the process %.2f s", command[:2], how, closed, ended)
    check_end(command, events)
    assert host.stored() == [("error", "server_shutdown")]


@pytest.mark.requirement("R5")
@pytest.mark.parametrize(
    "command",
    [pytest.param(command, id=name) for name, command in SERVERS.items() if command in RELOADING],
)
async def test_a_reload_ends_streams_with_their_event_and_the_next_worker_serves(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    host = Host(command, tmp_path, reload=True)
    async with host as program:
        reader = await host.open_stream()
        begun = time.monotonic()
        host.file.write_text(APPLICATION + "# changed\n", encoding="utf-8")
        events = await rest_of(reader)
        closed = time.monotonic() - begun
        again = await host.open_stream()
        logger.info(
            "%s, reload: the stream took %.2f s, the next one %.2f s",
            command[:2],
            closed,
            time.monotonic() - begun,
        )
        check_end(command, events)
        program.signal_group(signal.SIGINT)
        check_end(command, await rest_of(again))
        await program.ended(END_SECONDS)
    assert host.stored() == 2 * [("error", "server_shutdown")]


@pytest.mark.requirement("R5", "N3")
@pytest.mark.parametrize(
    "command", [pytest.param(SERVERS[name], id=name) for name in SERVERS if name != "hypercorn-worker"]
)
async def test_a_host_with_time_to_drain_cuts_clients_that_reconnect_and_ends_their_turn(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    host = Host(command, tmp_path, drain="20")
    async with host as program:
        question = {"role": "user", "id": "q", "parts": [{"type": "text", "text": "go"}]}
        body = {"id": "c", "messages": [question], "model": "sim/story:events=40,pace=0.05"}
        reader = await host.post("/ai-sdk/chat", body, b'"text-delta"')
        program.signal(signal.SIGTERM)
        assert (await rest_of(reader))[-1] == "cut"
        await program.ended(END_SECONDS)
    assert host.stored() == [("complete", None)]
