"""A host application on the servers of others: it ends at once, although an answer streams."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import socket
import sqlite3
import time
from contextlib import closing
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
from contextlib import asynccontextmanager

from fastapi import FastAPI

from turnstream import Engine

engine = Engine("sqlite:///../chats.sqlite")


@asynccontextmanager
async def lifespan(app):
    async with engine:
        yield


app = FastAPI(lifespan=lifespan)
app.include_router(engine.router("/llm"))
"""

UVICORN = ("uvicorn", "app:app", "--fd={socket}")
GUNICORN = ("gunicorn", "--worker-class=uvicorn_worker.UvicornWorker", "--bind=fd://{socket}", "app:app")
GUNICORN_ASGI = ("gunicorn", "--worker-class=asgi", "--bind=fd://{socket}", "app:app")
HYPERCORN = ("hypercorn", "--workers=0", "--bind=fd://{socket}", "app:app")
HYPERCORN_WORKER = ("hypercorn", "--graceful-timeout=0", "--bind=fd://{socket}", "app:app")
GRANIAN = ("granian", "--interface=asgi", "--port={port}", "app:app")
CTRL_C = "Ctrl-C"
"""A terminal sends SIGINT to all processes of the command."""


class Host:
    """A server with the application in a folder of its own. It runs inside the context manager."""

    def __init__(self, command: tuple[str, ...], folder: Path) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))  # connections queue until they are served
        port = self._listener.getsockname()[1]
        (folder / "source").mkdir()
        self.file = folder / "source" / "app.py"
        self.file.write_text(APPLICATION, encoding="utf-8")
        self._database = folder / "chats.sqlite"
        self._binds_itself = command is GRANIAN
        module, *arguments = (part.format(port=port, socket=self._listener.fileno()) for part in command)
        self._program = Program(
            *arguments,
            module=module,
            cwd=self.file.parent,
            environ={"PYTHONPATH": str(self.file.parent)},
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
        """Start an answer, and return its stream after the first text."""
        chat = (await self._client.call("POST", "/chats")).json["id"]
        body = {"turn_blocks": [{"block_type": "text", "text_content": "hi"}], "model": LONG}
        reader, writer = await self._client.open("POST", f"/chats/{chat}/turns?stream=true", body)
        self._writers.append(writer)
        async with asyncio.timeout(SECONDS):
            await reader.readuntil(b"event: block_delta")
        return reader

    def stored(self) -> list[tuple[str, str | None]]:
        """Return status and error of the answers, as the database has them."""
        with closing(sqlite3.connect(self._database)) as database:
            return database.execute(
                "SELECT status, error_code FROM turnstream_turns WHERE role = 'assistant'"
            ).fetchall()


async def rest_of(reader: asyncio.StreamReader) -> list[str]:
    """Return the names of the remaining events, in order."""
    async with asyncio.timeout(END_SECONDS):
        rest = b""
        while piece := await reader.read(65536):
            rest += piece
    return re.findall(r"^event: (\w+)", rest.decode(), re.MULTILINE)


@pytest.mark.requirement("R5")
@pytest.mark.parametrize(
    ("command", "how"),
    [
        pytest.param(UVICORN, signal.SIGTERM, id="uvicorn-SIGTERM"),
        pytest.param(GUNICORN, signal.SIGTERM, id="gunicorn-SIGTERM"),
        pytest.param(GUNICORN, CTRL_C, id="gunicorn-Ctrl-C"),
        pytest.param(GUNICORN_ASGI, signal.SIGTERM, id="gunicorn-asgi-SIGTERM"),
        pytest.param(HYPERCORN, CTRL_C, id="hypercorn-Ctrl-C"),
        pytest.param(GRANIAN, signal.SIGTERM, id="granian-SIGTERM"),
    ],
)
async def test_a_signal_ends_streams_with_their_event_and_then_the_process(
    command: tuple[str, ...], how: signal.Signals | str, tmp_path: Path
) -> None:
    host = Host(command, tmp_path)
    async with host as program:
        reader = await host.open_stream()
        begun = time.monotonic()
        if isinstance(how, signal.Signals):
            program.signal(how)
        else:
            program.signal_group(signal.SIGINT)
        events = await rest_of(reader)
        closed = time.monotonic() - begun
        await program.ended(END_SECONDS)
    ended = time.monotonic() - begun
    logger.info("%s, %s: the stream took %.2f s, the process %.2f s", command[0], how, closed, ended)
    assert "notice" in events
    assert events[-1] == "turn_error"
    assert host.stored() == [("error", "server_shutdown")]


@pytest.mark.requirement("R5")
async def test_a_worker_that_gets_no_signal_stores_the_end(tmp_path: Path) -> None:
    host = Host(HYPERCORN_WORKER, tmp_path)
    async with host as program:
        reader = await host.open_stream()
        program.signal(signal.SIGTERM)
        assert "turn_complete" not in await rest_of(reader)
        await program.ended(END_SECONDS)
    assert host.stored() == [("error", "server_shutdown")]


@pytest.mark.requirement("R5")
async def test_a_reload_ends_streams_with_their_event(tmp_path: Path) -> None:
    host = Host((*UVICORN, "--reload"), tmp_path)
    async with host as program:
        reader = await host.open_stream()
        host.file.write_text(APPLICATION + "# changed\n", encoding="utf-8")
        events = await rest_of(reader)
        assert events[-1] == "turn_error"
        await program.until(r"startup complete[\s\S]*startup complete", errors=True)
        again = await host.open_stream()
        program.signal_group(signal.SIGINT)
        assert (await rest_of(again))[-1] == "turn_error"
        await program.ended(END_SECONDS)
    assert host.stored() == 2 * [("error", "server_shutdown")]
