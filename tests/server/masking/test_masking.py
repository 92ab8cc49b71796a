"""Answers in production hide internal details, and answers in development show them (requirement K3).

Each cause of a failure has a mark in its text. In production, no client of any protocol finds the mark in an
answer, a frame or a notice, and no row has it. With `debug`, the client finds it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from starlette.requests import Request

from tests.server.live import serving
from tests.server.masking.clients import REQUESTS, agents, seen_by_clients, stored
from turnstream import LLM
from turnstream.config import ProviderSettings, RetrySettings, ServerSettings
from turnstream.engine import Engine
from turnstream.safety.redaction import Redaction
from turnstream.safety.rules import RedactionRule
from turnstream.server.auth import Principal
from turnstream.tools import tool
from turnstream.workflow import StageRun, Workflow
from turnstream.workflow.stage import StageOutput

pytestmark = pytest.mark.requirement("K3")
MARK = "xyzzy-4711"
ECHO = "sim/echo:pace=0"


class Cause(NamedTuple):
    """A failure with the mark in its words.

    Attributes:
        model: The model that is asked.
        options: Arguments of the engine.
        provider: The bytes that the provider `there` answers, or None.
        prepare: Called with the database after the server has started.
        only: The only protocols that can meet the cause. Empty: all.
    """

    model: str = ECHO
    options: Callable[[], dict[str, Any]] = dict
    provider: bytes | None = None
    prepare: Callable[[Path], None] = lambda _path: None
    only: tuple[str, ...] = ()


def response(status: str, body: str, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return (head + body).encode()


def streamed(*events: str) -> bytes:
    return response("200 OK", "".join(f"data: {event}\n\n" for event in events), "text/event-stream")


BEGUN = '{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Well"}}]}'


@tool
def clock() -> str:
    """Tell the time."""
    raise RuntimeError(f"no clock at {MARK}")


def prepare_hook(_call: object, _principal: object) -> None:
    raise RuntimeError(f"no index at {MARK}")


def broken_authentication(_request: Request) -> Principal:
    raise RuntimeError(f"no directory at {MARK}")


def replacement(_text: str) -> str:
    raise RuntimeError(f"no vault at {MARK}")


async def stage(run: StageRun[Any]) -> AsyncIterator[StageOutput]:
    yield "begun"
    raise RuntimeError(f"no file {MARK}")


def refuses(table: str) -> Callable[[Path], None]:
    """A database that refuses each row of a table, with the mark in its error."""

    def prepare(database: Path) -> None:
        with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
            connection.execute(
                f"CREATE TRIGGER t BEFORE INSERT ON turnstream_{table} "
                f"BEGIN SELECT RAISE(ABORT, 'disk {MARK}'); END"
            )

    return prepare


CAUSES: dict[str, Cause] = {
    "a provider refuses": Cause(
        "there/model",
        provider=response(
            "400 Bad Request", f'{{"error":{{"message":"no {MARK}","type":"invalid_request_error"}}}}'
        ),
    ),
    "a provider fails": Cause(
        "there/model",
        provider=response("500 Internal Server Error", f'{{"error":{{"message":"host {MARK}"}}}}'),
    ),
    "a provider reports an error in its stream": Cause(
        "there/model",
        provider=streamed(BEGUN, f'{{"error":{{"message":"host {MARK}","code":"server_error"}}}}'),
    ),
    "a provider sends no event": Cause("there/model", provider=streamed(BEGUN, f'{{"broken": {MARK}')),
    "a tool raises": Cause(
        "sim/tools:pace=0",
        lambda: {"tools": [clock]},
        only=("native", "native, no stream", "ai sdk", "ag-ui"),
    ),
    "the hook before a turn raises": Cause(
        options=lambda: {"prepare": prepare_hook}, only=tuple(set(REQUESTS) - {"staged agent"})
    ),
    "a function of a redaction raises": Cause(
        options=lambda: {
            "redaction": Redaction(shown=[RedactionRule("word", "s[a-z]{1,9}", replacement=replacement)])
        }
    ),
    "the store refuses a block": Cause(prepare=refuses("blocks")),
    "the store refuses a turn": Cause(prepare=refuses("turns")),
    "the store refuses a chat": Cause(prepare=refuses("chats")),
    "the authentication raises": Cause(options=lambda: {"authenticate": broken_authentication}),
    "a stage of a workflow raises": Cause(
        options=lambda: {"workflow": Workflow(LLM(ECHO), [stage])}, only=("staged agent",)
    ),
}


@asynccontextmanager
async def failing(cause: Cause, folder: Path, *, debug: bool) -> AsyncIterator[int]:
    """Start a server that meets the cause. Return its port."""
    database = folder / "turns.sqlite"
    async with AsyncExitStack() as stack:
        options: dict[str, Any] = {"workflow": Workflow(LLM(ECHO)), **cause.options()}
        if cause.provider is not None:
            base_url = await stack.enter_async_context(answering(cause.provider))
            settings = ProviderSettings(wire="openai-chat", base_url=base_url, trust_env=False)
            options["providers"] = {"there": settings}
            if "workflow" in options:
                llm = LLM(cause.model, providers={"there": settings.model_dump(exclude_unset=True)})
                options["workflow"] = Workflow(llm)
        engine = Engine(
            f"sqlite:///{database}",
            server=ServerSettings(debug=debug),
            retry=RetrySettings(attempts=1),
            agents=agents(cause.model),
            **options,
        )
        port = await stack.enter_async_context(serving(engine.application()))
        cause.prepare(database)
        yield port


@asynccontextmanager
async def answering(data: bytes) -> AsyncIterator[str]:
    """Run a provider that answers each request with the same bytes. Return its base URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        )
        await reader.readexactly(length)
        writer.write(data)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


def asked_models(cause: str) -> list[tuple[str, str]]:
    """Each protocol with its model. The models differ, so that no circuit opens."""
    planned = CAUSES[cause]
    suffix = "" if planned.provider is None else "-{}"
    return [
        (protocol, f"{planned.model}{suffix.format(number)}")
        for number, protocol in enumerate(planned.only or REQUESTS)
    ]


@pytest.mark.parametrize("cause", CAUSES)
async def test_production_says_nothing_of_the_inside(tmp_path: Path, cause: str) -> None:
    planned = CAUSES[cause]
    async with failing(planned, tmp_path, debug=False) as port:
        for protocol, model in asked_models(cause):
            seen = await seen_by_clients(port, protocol, model)
            assert MARK not in seen.decode("utf-8", "replace"), protocol
    assert MARK not in stored(tmp_path / "turns.sqlite")


@pytest.mark.parametrize("cause", CAUSES)
async def test_development_says_all(tmp_path: Path, cause: str) -> None:
    planned = CAUSES[cause]
    async with failing(planned, tmp_path, debug=True) as port:
        for protocol, model in asked_models(cause):
            seen = await seen_by_clients(port, protocol, model)
            assert MARK in seen.decode("utf-8", "replace"), protocol
