"""`turnstream ask`: asks one question and writes the answer to the terminal."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING

from turnstream.cli.command import Command, add_config, add_database
from turnstream.errors import InvalidRequest, StoreLocked, TurnstreamError

if TYPE_CHECKING:
    from turnstream.cli.followed_turn import FollowedTurn, Question
    from turnstream.cli.presenting import Presentation
    from turnstream.cli.terminal import Screen

logger = logging.getLogger(__name__)

SIGNALLED = 128
"""Base of the exit code after a signal, as in shells. The signal's number is added."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "question",
        nargs="*",
        help="the question; `-`, or no argument, reads standard input",
    )
    parser.add_argument("-m", "--model", metavar="PROVIDER/MODEL", help="see `turnstream models`")
    parser.add_argument("-s", "--system", metavar="TEXT", help="the system prompt")
    parser.add_argument(
        "-c",
        "--continue",
        dest="go_on",
        action="store_true",
        help="continue the last conversation",
    )
    parser.add_argument(
        "-u", "--usage", action="store_true", help="at the end, print the tokens and their cost"
    )
    parser.add_argument(
        "--json", action="store_true", help="print events as lines of JSON; with --no-stream, one object"
    )
    parser.add_argument("--no-stream", action="store_true", help="print the answer when it is complete")
    parser.add_argument("--url", help="URL of the server to use; without it, the engine runs in this process")
    parser.add_argument(
        "--api-key-env",
        metavar="NAME",
        default="TURNSTREAM_API_KEY",
        help="the environment variable with the server's key (default: %(default)s)",
    )
    add_database(parser, "without --url: the database that keeps the turn (default: the user's own)")
    add_config(parser)


def run(arguments: Namespace) -> int:
    import asyncio

    from turnstream.cli.conversation import own_database, recall
    from turnstream.cli.followed_turn import Question

    text = _question(arguments.question)
    where = arguments.url or arguments.database_url or own_database()
    place = recall(where) if arguments.go_on else None
    question = Question(text, arguments.model, arguments.system, place)
    return asyncio.run(_ask(arguments, question, where))


def _question(words: list[str]) -> str:
    if not words and sys.stdin.isatty():
        raise InvalidRequest('the question is missing: turnstream ask "Why is the sky blue?"')
    text = "\n\n".join(_parts(words or ["-"]))
    if not text.strip():
        raise InvalidRequest('the question is empty: turnstream ask "Why is the sky blue?"')
    return text


def _parts(words: list[str]) -> Iterator[str]:
    """Yield the question's parts: standard input for each `-`, and consecutive words joined by spaces."""
    for is_input, several in itertools.groupby(words, lambda word: word == "-"):
        yield sys.stdin.read() if is_input else " ".join(several)


async def _ask(arguments: Namespace, question: Question, where: str) -> int:
    from turnstream.cli.presenting import presentation, usage_line
    from turnstream.cli.terminal import Piece, Screen

    screen = Screen()
    shown = presentation(screen, as_json=arguments.json, stream=not arguments.no_stream)
    try:
        stopped_by = await _watch(_choose_turn(arguments, question, where), shown, where, screen)
    except StoreLocked:
        if arguments.database_url is not None or question.place is not None:
            raise
        screen.write(
            [Piece("[the database is in use by another question: this answer is not stored]\n", aside=True)]
        )
        stopped_by = await _watch(_choose_turn(arguments, question, None), shown, None, screen)
    if arguments.usage:
        screen.write([Piece(f"{usage_line(shown.fold)}\n", aside=True)])
    return _exit_code(shown, screen, stopped_by)


def _choose_turn(arguments: Namespace, question: Question, where: str | None) -> FollowedTurn:
    """Return the turn, at a server or in the database `where`. None: in a temporary database."""
    if arguments.url is not None:
        from turnstream.cli.remote_turn import RemoteTurn

        key = os.environ.get(arguments.api_key_env, "").strip()
        return RemoteTurn(question, arguments.url, key=key or None)
    from turnstream.access import secrets_of
    from turnstream.cli.local_turn import LocalTurn
    from turnstream.config import load_settings
    from turnstream.telemetry import configure_logging

    settings = load_settings(arguments.config, flags={"server.debug": True})  # the user is the operator
    configure_logging("debug" if arguments.debug else "error", secrets=secrets_of(settings))
    return LocalTurn(question, settings, database_url=where)


async def _watch(
    watched: FollowedTurn, shown: Presentation, where: str | None, screen: Screen
) -> signal.Signals | None:
    """Show the answer. Return the signal that stopped it, or None."""
    import asyncio

    from turnstream.cli.stopping import StopSignals

    stopping = StopSignals(watched)
    try:
        async with watched:
            with stopping:
                await _show(watched, shown, where, screen)
    except asyncio.CancelledError:
        if stopping.by is None:
            raise
    finally:
        shown.close()
    return stopping.by


async def _show(watched: FollowedTurn, shown: Presentation, where: str | None, screen: Screen) -> None:
    from turnstream.cli.approving import ApprovalPrompt

    try:
        async with ApprovalPrompt(watched, shown.fold.approvals, screen) as prompt:
            while (events := await watched.next()) is not None:
                for name, data in events:
                    if name == "turn_start" and where is not None:
                        _remember(where, data["chat_id"], data["turn_id"])
                shown.show(events)
                prompt.check()
    except BrokenPipeError:
        await watched.interrupt()
        raise


def _remember(where: str, chat_id: str, turn_id: str) -> None:
    from turnstream.cli.conversation import ConversationPlace, remember

    try:
        remember(where, ConversationPlace(chat_id, turn_id))
    except OSError as error:
        logger.warning("--continue will not find this conversation: %s", error)


def _exit_code(shown: Presentation, screen: Screen, stopped_by: signal.Signals | None) -> int:
    from turnstream.cli.terminal import Piece

    ending = shown.fold.ending
    if stopped_by is not None or (ending is not None and ending.name == "turn_cancelled"):
        note = "[stopped]" if ending is not None else "[left: the turn may still go on]"
        screen.write([Piece(f"{note}\n", aside=True)])
        return SIGNALLED + (stopped_by or signal.SIGINT)
    if ending is None:
        raise TurnstreamError("the answer's stream ended without an end: ask again", code="stream_incomplete")
    if ending.name == "turn_error":
        raise TurnstreamError(f"{ending.data['error']} ({ending.data['code']})", code=ending.data["code"])
    return 0


COMMAND = Command(
    "ask",
    "ask a model: its answer streams to the terminal, Ctrl-C stops it",
    """\
turnstream ask "Why is the sky blue?"
turnstream ask "Think about rain." -m sim/thinking
turnstream ask -c "And about snow?" --usage
turnstream ask "Hello!" --url http://127.0.0.1:8089 -s "Answer in French."
git diff | turnstream ask "Write a commit message for this:" - > message.txt
turnstream ask "Hello!" --json --no-stream > answer.json""",
    add_arguments,
    run,
)
