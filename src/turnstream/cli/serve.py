"""`turnstream serve`: runs the server with an embedded database."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from turnstream.cli.command import Command, add_config, add_database
from turnstream.cli.terminal import bold, dim

if TYPE_CHECKING:
    import socket

    from turnstream.config import Settings
    from turnstream.engine import Engine

DRAIN_SECONDS = 20.0
SHARED_DRAIN_SECONDS = 300.0
"""Seconds of the drain if the settings do not give them: on an SQLite and on a PostgreSQL database."""
LEFTOVER_SECONDS = 3.0
"""Seconds that remaining tasks have to end after the server and the engine have stopped."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--host", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="the port to listen on, 0 for a free one (default: 8089)")
    add_config(parser)
    add_database(parser, "where turns are kept (default: sqlite:///turnstream.sqlite)")
    parser.add_argument(
        "--default-model", metavar="PROVIDER/MODEL", help="the model of turns that do not name one"
    )
    parser.add_argument(
        "--builtin-tools",
        action="store_true",
        default=None,
        help="also let models call the built-in tools: calculator and clock",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes that serve together; more than one needs PostgreSQL (default: 1)",
    )
    parser.add_argument(
        "--drain-seconds",
        type=float,
        metavar="N",
        help="seconds that running turns may continue after SIGTERM or Ctrl-C "
        "(default: 20, and 300 on PostgreSQL)",
    )


def run(arguments: Namespace) -> int:
    import asyncio
    import logging

    from turnstream.access import check_binding, secrets_of
    from turnstream.cli.workers import become_worker, check_workers, settings_of_worker
    from turnstream.config import load_settings
    from turnstream.server.uvicorn_server import bind, loop_factory
    from turnstream.telemetry import configure_logging

    settings = load_settings(arguments.config, flags=_flags(arguments))
    check_binding(settings.server)
    configure_logging(
        settings.telemetry.log_level,
        debug=settings.telemetry.debug,
        levels=settings.telemetry.levels,
        secrets=secrets_of(settings),
        form=settings.telemetry.format,
    )
    # Warnings of libraries use the same handlers, which mask keys.
    for library in ("uvicorn", "asyncio", "aiohttp"):
        logging.getLogger(library).handlers = logging.getLogger("turnstream").handlers
    check_workers(arguments.workers, settings.store.url)
    bound = bind(settings.server.host, settings.server.port)
    worker = 0
    try:
        if arguments.workers > 1:
            worker = become_worker(arguments.workers)
            settings = settings_of_worker(settings, worker)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(settings, bound, worker))
    finally:
        for listener in bound:
            listener.close()
    return 0


def _flags(arguments: Namespace) -> dict[str, object]:
    return {
        "server.host": arguments.host,
        "server.port": arguments.port,
        "server.debug": arguments.debug or None,
        "server.drain_seconds": arguments.drain_seconds,
        "store.url": arguments.database_url,
        "engine.default_model": arguments.default_model,
        "tools.builtin": arguments.builtin_tools,
    }


def drain_of(settings: Settings) -> float:
    """Return the seconds that turns may continue after SIGTERM."""
    from turnstream.store.urls import database_of

    if (given := settings.server.drain_seconds) is not None:
        return given
    return SHARED_DRAIN_SECONDS if database_of(settings.store.url).is_shared else DRAIN_SECONDS


async def _serve(settings: Settings, bound: Sequence[socket.socket], worker: int) -> None:
    import logging
    import os

    from turnstream.access import server_key
    from turnstream.engine import Engine
    from turnstream.server.uvicorn_server import address_of, cancel_leftovers, run_application

    if settings.telemetry.opentelemetry:
        from turnstream.telemetry.exporting import configure_export

        configure_export()
    engine = Engine.from_settings(settings, drain_seconds=None)
    url = address_of(bound, settings.server.host)

    def print_greeting() -> None:
        if worker:
            return
        print(
            "\n".join(greeting(engine, settings, url, with_key=server_key(settings.server) is not None)),
            flush=True,
        )

    async with engine:
        await engine.load_prices()
        await run_application(
            engine.application(),
            bound,
            drain=engine.drain,
            grace=drain_of(settings),
            on_listening=print_greeting,
        )
    if not worker:
        print("turnstream stopped", flush=True)
    if left := await cancel_leftovers(LEFTOVER_SECONDS):
        logging.getLogger(__name__).error(
            "the process ends without %d tasks that ignore their cancellation: %s", len(left), left
        )
        logging.shutdown()
        os._exit(0)  # all turns are stored, and the database is closed


def greeting(engine: Engine, settings: Settings, url: str, *, with_key: bool) -> list[str]:
    """Return the lines to print when the server listens at `url`: addresses, database, models and a trial."""
    from turnstream.cli.models import table
    from turnstream.store.urls import database_of

    models = engine.catalog.models()
    simulated = all(model.provider == "sim" for model in models if model.ready) and not any(
        map(engine.catalog.is_ready, settings.providers)
    )
    lines = [
        f"{bold('turnstream')} listens on {bold(url)}",
        "",
        f"  reference  {url}/docs",
        f"  database   {database_of(settings.store.url).name}",
        *_labelled("  models     ", table(engine.catalog, settings)),
    ]
    if names := ", ".join(engine.commands.tools.tools):
        lines.append(f"  tools      {names}")
    if simulated:
        lines += [
            "",
            (
                "  Only the simulated models are ready. "
                "For real ones set ANTHROPIC_API_KEY or OPENAI_API_KEY and start"
            ),
            "  again, or describe any compatible provider in turnstream.toml.",
        ]
    lines += [
        "",
        "  Try it:",
        "",
        *example_commands(url, settings.server.api_key_env if with_key else None),
        "",
    ]
    lines += [dim("Ctrl-C stops; running turns may finish first.")]
    return lines


def example_commands(url: str, key_variable: str | None) -> list[str]:
    """Return two shell commands that create a chat, ask a question in it and watch the answer.

    They need only curl.

    `key_variable`: the environment variable with the server's key. None: the server needs no key.
    """
    key = f' -H "Authorization: Bearer ${key_variable}"' if key_variable else ""
    body = '{"turn_blocks":"Hello!"}'
    return [
        f"""CHAT=$(curl -s{key} -X POST {url}/api/chats | cut -d'"' -f4)""",
        f"""curl -N{key} -H 'Content-Type: application/json' -d '{body}' \
"{url}/api/chats/$CHAT/turns?stream=true\"""",
    ]


def _labelled(label: str, lines: Sequence[str]) -> list[str]:
    """Return the lines with a label before the first line, and the others indented by its width."""
    return [f"{label if place == 0 else ' ' * len(label)}{line}" for place, line in enumerate(lines)]


COMMAND = Command(
    "serve",
    "run the server",
    """\
turnstream serve
turnstream serve --port 0 --database-url sqlite:////tmp/turns.sqlite
turnstream serve --config production.toml --default-model anthropic/claude-sonnet-5-5
turnstream serve --database-url postgresql://user@localhost/turnstream --workers 4
TURNSTREAM_API_KEY=… turnstream serve --host 0.0.0.0""",
    add_arguments,
    run,
)
