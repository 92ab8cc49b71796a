"""`turnstream chat`: a chat window in the terminal, with answers that outlive it."""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from turnstream.cli.command import SIGNALLED, Command, add_config, add_server
from turnstream.errors import ConfigurationError

if TYPE_CHECKING:
    from turnstream.config import Settings
    from turnstream.core.blocks import Block
    from turnstream.terminal.asking import Asking
    from turnstream.terminal.server_connection import ServerConnection

IDLE_SECONDS = 600.0
"""Seconds without windows and turns after which the background server ends."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("chat", nargs="?", metavar="CHAT", help="the id of a chat to open")
    parser.add_argument("-l", "--last", action="store_true", help="open the chat that changed last")
    parser.add_argument("-m", "--model", metavar="PROVIDER/MODEL", help="see `turnstream models`")
    parser.add_argument("-s", "--system", metavar="TEXT", help="the system prompt")
    add_server(parser, "URL of the server to use; without it, a server of your own runs in the background")
    parser.add_argument(
        "--in-process", action="store_true", help="run the engine in this process: it ends with the window"
    )
    parser.add_argument(
        "--idle-seconds",
        type=float,
        default=IDLE_SECONDS,
        metavar="N",
        help="seconds without windows and answers after which a new background server ends "
        "(default: %(default)g)",
    )
    parser.add_argument(
        "--plain", action="store_true", help="plain lines without a window, for screen readers"
    )
    parser.add_argument("--theme", help="a theme of the window, such as textual-light or ansi-dark")
    add_config(parser)


def run(arguments: Namespace) -> int:
    import asyncio
    import logging

    from turnstream.config import load_settings

    _require_textual()
    settings = load_settings(arguments.config, flags={"server.debug": True})  # the user is the operator
    logging.getLogger("turnstream").addHandler(logging.NullHandler())  # the window owns the terminal
    if arguments.url is not None:
        return asyncio.run(_at_server(arguments, settings))
    if arguments.in_process or sys.platform == "win32":
        return _in_process(arguments, settings)
    return asyncio.run(_in_background(arguments, settings))


def _require_textual() -> None:
    from importlib.util import find_spec

    if find_spec("textual") is None:
        raise ConfigurationError("the chat window needs Textual: pip install 'turnstream[tui]'")


async def _at_server(arguments: Namespace, settings: Settings) -> int:
    from turnstream.terminal.server_connection import ServerAccess, ServerConnection

    key = os.environ.get(arguments.api_key_env, "").strip() or None
    return await _show(arguments, settings, ServerConnection(ServerAccess(arguments.url, key)))


def _in_process(arguments: Namespace, settings: Settings) -> int:
    import asyncio

    from turnstream.cli.background.in_process import InProcessServer
    from turnstream.cli.background.place import background_place
    from turnstream.terminal.server_connection import ServerConnection

    with InProcessServer(settings, background_place().database_url) as server:

        async def show() -> int:
            return await _show(arguments, settings, ServerConnection(server.access))

        return asyncio.run(show())


async def _in_background(arguments: Namespace, settings: Settings) -> int:
    import asyncio

    from turnstream.cli.background.finding import find_or_start
    from turnstream.cli.background.place import background_place
    from turnstream.terminal.server_connection import ServerAccess, ServerConnection

    place = background_place()

    async def find() -> None:
        await asyncio.to_thread(
            find_or_start, place, idle_seconds=arguments.idle_seconds, config=arguments.config
        )

    await find()
    access = ServerAccess(socket_path=str(place.socket_path))
    return await _show(arguments, settings, ServerConnection(access, find))


async def _show(arguments: Namespace, settings: Settings, connection: ServerConnection) -> int:
    from turnstream.terminal.asking import Asking

    try:
        chat_id = arguments.chat
        if arguments.last and chat_id is None:
            page = await connection.client.chats.list(limit=1)
            chat_id = page.chats[0].id if page.chats else None
        asking = Asking(arguments.model, arguments.system)
        if arguments.plain or not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
            return await _plain_lines(connection, asking, chat_id)
        return await _window(arguments, settings, connection, asking, chat_id)
    finally:
        await connection.close()


async def _plain_lines(connection: ServerConnection, asking: Asking, chat_id: str | None) -> int:
    import asyncio

    from turnstream.cli.hangup import HangupWatch
    from turnstream.terminal.plain_mode import PlainChat

    task = asyncio.current_task()
    assert task is not None
    with HangupWatch(task.cancel, ("SIGHUP",)) as watch:
        try:
            await PlainChat(connection, asking, attach=_attached).run(chat_id)
        except (asyncio.CancelledError, OSError):
            if not watch.has_hung_up():
                raise
            return SIGNALLED + signal.SIGHUP
    return 0


async def _window(
    arguments: Namespace,
    settings: Settings,
    connection: ServerConnection,
    asking: Asking,
    chat_id: str | None,
) -> int:
    from turnstream.cli.hangup import HangupWatch
    from turnstream.terminal.app import ChatApp, WindowOptions

    options = WindowOptions(
        chat_id=chat_id,
        update_interval=settings.stream.update_interval,
        theme=arguments.theme,
        attach=_attached,
    )
    for name in ("COLUMNS", "LINES"):  # a parent may export them: they would hide the size of the terminal
        os.environ.pop(name, None)
    app = ChatApp(connection, asking, options)
    with HangupWatch(app.exit, ("SIGHUP", "SIGTERM")) as watch:
        await app.run_async()
    return watch.code or app.return_code or 0


def _attached(name: str) -> Block:
    from turnstream.cli.question.attachments import attached

    return next(attached([name], first=1))


COMMAND = Command(
    "chat",
    "chat in the terminal: an answer continues if the window is closed",
    """\
turnstream chat
turnstream chat --last
turnstream chat --url http://127.0.0.1:8089 -m anthropic/claude-sonnet-5-5
turnstream chat --plain""",
    add_arguments,
    run,
)
