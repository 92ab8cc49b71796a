"""The process of the background server."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from turnstream.access import secrets_of
from turnstream.cli.background.idle import UseWatch
from turnstream.cli.background.place import BackgroundPlace, background_place
from turnstream.config import Settings, load_settings
from turnstream.engine import Engine
from turnstream.errors import StoreLocked, TurnstreamError
from turnstream.server.auth import LOCAL, Principal
from turnstream.server.uvicorn_server import BACKLOG, cancel_leftovers, loop_factory, run_application
from turnstream.telemetry import configure_logging

if TYPE_CHECKING:
    from starlette.requests import Request

GRACE_SECONDS = 10.0
"""Seconds that running turns have after a signal."""
LOCK_SECONDS = 15.0
"""Seconds that a server before this one has to close the database."""
LEFTOVER_SECONDS = 3.0


def main() -> int:
    """Serve until the server is unused, or a signal arrives. Return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--idle-seconds", type=float, required=True)
    parser.add_argument("--config")
    parser.add_argument("--ready-descriptor", type=int, required=True)
    arguments = parser.parse_args()
    os.umask(0o077)  # the database and its files are for this user only
    if os.fork():
        os._exit(0)  # the window does not wait for the server
    try:
        settings = load_settings(arguments.config, flags={"server.debug": True})  # the user is the operator
        configure_logging("warning", secrets=secrets_of(settings))
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(
                _serve(settings, background_place(), arguments.idle_seconds, arguments.ready_descriptor)
            )
    except TurnstreamError as error:
        print(error.message, file=sys.stderr)
        return 1
    return 0


def only_this_user(request: Request) -> Principal:
    """Return the user of the socket: its permissions keep other users out."""
    return LOCAL


async def _serve(settings: Settings, place: BackgroundPlace, idle_seconds: float, ready: int) -> None:
    listener, fresh = _bound(place.socket_path)
    inode = _inode(fresh)
    try:
        async with _opened(settings, place.database_url) as engine:
            await engine.load_prices()
            used = UseWatch(engine.application())
            ending = asyncio.get_running_loop().create_task(
                _end_unused(used, engine, place.socket_path, idle_seconds), name="end of an unused server"
            )

            def show() -> None:
                fresh.rename(place.socket_path)
                os.write(ready, b"1")
                os.close(ready)

            try:
                await run_application(
                    used,
                    [listener],
                    drain=engine.drain,
                    grace=GRACE_SECONDS,
                    on_listening=show,
                )
            finally:
                ending.cancel()
                await asyncio.wait({ending})
    finally:
        listener.close()
        fresh.unlink(missing_ok=True)
        if _inode(place.socket_path) == inode:  # not the socket of a newer server
            place.socket_path.unlink(missing_ok=True)
    if await cancel_leftovers(LEFTOVER_SECONDS):
        os._exit(0)  # all turns are stored, and the database is closed


async def _end_unused(used: UseWatch, engine: Engine, path: Path, idle_seconds: float) -> None:
    await used.wait_unused(idle_seconds, lambda: bool(engine.active_turns))
    # A window that comes now starts another server, which waits for this one.
    path.unlink(missing_ok=True)  # noqa: ASYNC240 - one system call, once
    os.kill(os.getpid(), signal.SIGTERM)


def _bound(path: Path) -> tuple[socket.socket, Path]:
    """Return a listening socket, and its path, which is not yet the path that windows know."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(fresh))
    finally:
        os.umask(mask)
    listener.listen(BACKLOG)
    return listener, fresh


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return None


@asynccontextmanager
async def _opened(settings: Settings, url: str) -> AsyncGenerator[Engine, None]:
    """Open an engine. Wait for a server that has not closed the database yet."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        engine = Engine.from_settings(
            settings, store_url=url, authenticate=only_this_user, drain_seconds=None
        )
        try:
            await engine.__aenter__()
            break
        except StoreLocked:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
    try:
        yield engine
    finally:
        await engine.__aexit__(None, None, None)


if __name__ == "__main__":
    sys.exit(main())
