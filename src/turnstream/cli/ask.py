"""`turnstream ask`: one question, its answer in the terminal."""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from turnstream.cli.command import Command, add_config, add_database
from turnstream.errors import InvalidRequest, TurnstreamError

if TYPE_CHECKING:
    from turnstream.cli.answer_text import AnswerText
    from turnstream.cli.terminal import Screen
    from turnstream.cli.watched import Watched

SIGNALLED = 128
"""Shells add the signal's number to it."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("question", help="what to ask; - reads it from standard input")
    parser.add_argument("-m", "--model", metavar="PROVIDER/MODEL", help="see `turnstream models`")
    parser.add_argument("--system", metavar="TEXT", help="the system prompt")
    parser.add_argument("--url", help="ask this server; without it, the engine runs in this process")
    parser.add_argument(
        "--api-key-env",
        metavar="NAME",
        default="TURNSTREAM_API_KEY",
        help="the environment variable with the server's key (default: %(default)s)",
    )
    add_database(parser, "without --url: keep the turn here (default: a temporary database)")
    add_config(parser)


def run(arguments: Namespace) -> int:
    import asyncio

    question = sys.stdin.read() if arguments.question == "-" else arguments.question
    if not question.strip():
        raise InvalidRequest("the question is empty")
    return asyncio.run(_ask(_watched(arguments, question)))


def _watched(arguments: Namespace, text: str) -> Watched:
    from turnstream.cli.watched import Question

    question = Question(text, arguments.model, arguments.system)
    if arguments.url is not None:
        from turnstream.cli.remote_turn import RemoteTurn

        key = os.environ.get(arguments.api_key_env, "").strip()
        return RemoteTurn(question, arguments.url, key=key or None)
    from turnstream.cli.local_turn import LocalTurn
    from turnstream.config import load_settings, secrets_of
    from turnstream.telemetry import configure_logging

    settings = load_settings(arguments.config, flags={"server.debug": arguments.debug or None})
    configure_logging("debug" if arguments.debug else "error", secrets=secrets_of(settings))
    return LocalTurn(question, settings, database_url=arguments.database_url)


async def _ask(watched: Watched) -> int:
    import asyncio

    from turnstream.cli.answer_text import AnswerText
    from turnstream.cli.stopping import Stopping
    from turnstream.cli.terminal import Screen

    screen = Screen()
    answer = AnswerText()
    stopping = Stopping(watched)
    try:
        async with watched:
            with stopping:
                await _show(watched, answer, screen)
    except asyncio.CancelledError:
        if stopping.by is None:
            raise
    finally:
        screen.write(answer.close())
    return _exit_code(answer, screen, stopping.by)


async def _show(watched: Watched, answer: AnswerText, screen: Screen) -> None:
    try:
        while (events := await watched.next()) is not None:
            screen.write([piece for name, data in events for piece in answer.feed(name, data)])
    except BrokenPipeError:
        await watched.interrupt()
        raise


def _exit_code(answer: AnswerText, screen: Screen, stopped_by: signal.Signals | None) -> int:
    from turnstream.cli.terminal import Piece

    ending = answer.fold.ending
    if stopped_by is not None or (ending is not None and ending.name == "turn_cancelled"):
        note = "[stopped]" if ending is not None else "[left: the turn may still go on]"
        screen.write([Piece(f"{note}\n", aside=True)])
        return SIGNALLED + (stopped_by or signal.SIGINT)
    if ending is None:
        raise TurnstreamError("the answer's stream ended without an end", code="stream_incomplete")
    if ending.name == "turn_error":
        raise TurnstreamError(f"{ending.data['error']} ({ending.data['code']})", code=ending.data["code"])
    return 0


COMMAND = Command(
    "ask",
    "ask a model: its answer streams to the terminal, Ctrl-C stops it",
    """\
turnstream ask "Why is the sky blue?"
turnstream ask "Think about rain." -m sim/thinking
turnstream ask "Hello!" --url http://127.0.0.1:8089 --system "Answer in French."
git diff | turnstream ask - --system "Write a commit message." > message.txt""",
    add_arguments,
    run,
)
