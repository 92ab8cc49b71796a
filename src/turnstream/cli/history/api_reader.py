"""Reads from the API of a server, or of an engine in this process that opens a database."""

from __future__ import annotations

import asyncio
import os
from argparse import Namespace
from collections.abc import AsyncGenerator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from turnstream.errors import NotFound, TurnstreamError

Answer = TypeVar("Answer")
_NOT_FOUND = 404
_BAD_REQUEST = 400


class ApiReader(Protocol):
    """Reads answers of the API. Paths are relative to its prefix."""

    async def get(self, path: str, answer: type[Answer], **query: str | int | None) -> Answer:
        """Return the answer of a path.

        `answer`: its type. `query`: fields of the query. Those that are None are left out. Raises the
        server's error.
        """
        ...


@asynccontextmanager
async def open_reader(arguments: Namespace) -> AsyncGenerator[ApiReader]:
    """Open the server of `--url`, or a database.

    Raises NotFound if the user has no database yet, and StoreLocked if another process uses it.
    """
    if arguments.url is not None:
        async with _server(arguments) as reader:
            yield reader
        return
    async with _database(arguments) as reader:
        yield reader


class _ServerReader:
    def __init__(self, transport: Any) -> None:
        self._transport = transport

    async def get(self, path: str, answer: type[Answer], **query: str | int | None) -> Answer:
        from turnstream.client.transport import Request

        return await self._transport.ask(Request("GET", path + _query(query)), answer)


@asynccontextmanager
async def _server(arguments: Namespace) -> AsyncGenerator[ApiReader]:
    from urllib.parse import urlsplit

    from turnstream.access import is_loopback
    from turnstream.client.retrying import Retry
    from turnstream.client.transport import Connections, Transport, api_root

    root = api_root(arguments.url)
    key = os.environ.get(arguments.api_key_env, "").strip()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    connections = Connections(None, trust_env=not is_loopback(urlsplit(root).hostname or ""))
    try:
        yield _ServerReader(Transport(root, headers, Retry(budget=0), connections))
    finally:
        await connections.close()


class _OwnReader:
    """Calls the application of an engine, without a network."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def get(self, path: str, answer: type[Answer], **query: str | int | None) -> Answer:
        status, body = await _call(self._application, f"/api{path}", _query(query).removeprefix("?"))
        if status >= _BAD_REQUEST:
            error = msgspec.json.decode(body, type=dict[str, dict[str, str]])["error"]
            kind = NotFound if status == _NOT_FOUND else TurnstreamError
            raise kind(error["message"], code=error["code"])
        return msgspec.json.decode(body, type=answer)


async def _call(application: Any, path: str, query: str) -> tuple[int, bytes]:
    """Return the status and the body of a GET."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 80),
    }
    status = 500
    body = bytearray()
    requested = False
    ended = asyncio.Event()

    async def receive() -> MutableMapping[str, Any]:
        nonlocal requested
        if requested:
            await ended.wait()
            return {"type": "http.disconnect"}
        requested = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            body.extend(message.get("body", b""))

    try:
        await application(scope, receive, send)
    finally:
        ended.set()
    return status, bytes(body)


@asynccontextmanager
async def _database(arguments: Namespace) -> AsyncGenerator[ApiReader]:
    from turnstream.cli.conversation import own_database
    from turnstream.config import load_settings
    from turnstream.engine import Engine
    from turnstream.server.auth import local_use
    from turnstream.telemetry import configure_logging
    from turnstream.user_folders import data_folder

    url = arguments.database_url or own_database()
    if arguments.database_url is None and not (data_folder() / "chats.sqlite").exists():
        raise NotFound('there are no chats yet: begin with turnstream ask "Why is the sky blue?"')
    settings = load_settings(arguments.config, flags={"server.debug": True, "server.metrics": "off"})
    configure_logging("error")
    engine = Engine.from_settings(
        settings, store_url=url, authenticate=local_use, tools=[], drain_seconds=None
    )
    application = engine.application()
    async with engine:
        yield _OwnReader(application)


def _query(fields: dict[str, str | int | None]) -> str:
    given = {name: value for name, value in fields.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""
