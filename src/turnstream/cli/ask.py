"""`turnstream ask`: asks one question and writes the answer to the terminal."""

from __future__ import annotations

import logging
import os
import signal
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from turnstream.cli.command import SIGNALLED, Command, add_config, add_database, add_server
from turnstream.errors import InvalidOutput, StoreLocked, TurnstreamError

if TYPE_CHECKING:
    from turnstream.cli.followed_turn import FollowedTurn, Question
    from turnstream.cli.presenting import Form, Presentation
    from turnstream.cli.question.building import BuiltQuestion
    from turnstream.cli.terminal import Screen

logger = logging.getLogger(__name__)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "question",
        nargs="*",
        help="the question; `-`, or no argument, reads standard input",
    )
    parser.add_argument("-m", "--model", metavar="PROVIDER/MODEL", help="see `turnstream models`")
    parser.add_argument("-s", "--system", metavar="TEXT", help="the system prompt")
    _add_content(parser)
    _add_chat(parser)
    _add_output(parser)
    add_server(parser, "URL of the server to use; without it, the engine runs in this process")
    add_database(parser, "without --url: the database that keeps the turn (default: the user's own)")
    add_config(parser)


def _add_content(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("content and model")
    group.add_argument(
        "-o",
        "--option",
        dest="options",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a parameter of the model: temperature=0.2, thinking.effort=high; the value is JSON or text",
    )
    group.add_argument(
        "-a",
        "--attach",
        dest="attachments",
        metavar="FILE|URL",
        action="append",
        default=[],
        help="attach an image, a PDF or a text; `-` is standard input; repeatable",
    )
    group.add_argument(
        "-T",
        "--tool",
        dest="tools",
        metavar="NAME",
        action="append",
        default=[],
        help="a tool that the model may call; repeatable (default: all tools of the settings or the server)",
    )
    group.add_argument(
        "--functions",
        metavar="FILE",
        action="append",
        default=[],
        help="a Python file whose functions the model may call; not with --url",
    )
    group.add_argument(
        "--schema",
        metavar="SCHEMA",
        help="ask for JSON: a JSON Schema, a file with one, or a line such as 'name, age int, tags str[]'",
    )
    group.add_argument("-t", "--template", metavar="NAME", help="see `turnstream templates`")
    group.add_argument(
        "-p",
        "--param",
        dest="words",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a value for a placeholder of the template's prompt",
    )


def _add_chat(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("chat")
    group.add_argument(
        "-c",
        "--continue",
        dest="go_on",
        action="store_true",
        help="continue the last conversation",
    )
    group.add_argument("--chat", metavar="ID", help="continue this chat; see `turnstream logs`")
    group.add_argument(
        "--no-store",
        action="store_true",
        help="without --url: keep nothing of the question and the answer",
    )


def _add_output(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("-u", "--usage", action="store_true", help="show the tokens and their cost at the end")
    form = group.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object, at the end")
    form.add_argument("--ndjson", action="store_true", help="each event as a line of JSON, as it arrives")
    group.add_argument("--no-stream", action="store_true", help="print the answer when it is complete")
    group.add_argument(
        "--plain", action="store_true", help="on a terminal: the answer as it is, without styled Markdown"
    )


def run(arguments: Namespace) -> int:
    import asyncio

    from turnstream.cli.conversation import own_database
    from turnstream.cli.question.building import build_question

    where = arguments.url or arguments.database_url or own_database()
    built = build_question(arguments, where)
    return asyncio.run(_ask(arguments, built, None if arguments.no_store else where))


async def _ask(arguments: Namespace, built: BuiltQuestion, where: str | None) -> int:
    from turnstream.cli.presenting import presentation, usage_line
    from turnstream.cli.terminal import Piece, Screen

    screen = Screen(styled=not arguments.plain)
    shown = presentation(screen, _form(arguments), schema=built.schema)
    question = built.question
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


def _form(arguments: Namespace) -> Form:
    if arguments.ndjson:
        return "events"
    if arguments.json:
        return "object"
    return "whole" if arguments.no_stream else "live"


def _choose_turn(arguments: Namespace, question: Question, where: str | None) -> FollowedTurn:
    """Return the turn, at a server or in the database `where`. None: in a temporary database."""
    if arguments.url is not None:
        from turnstream.cli.remote_turn import RemoteTurn

        key = os.environ.get(arguments.api_key_env, "").strip()
        return RemoteTurn(question, arguments.url, key=key or None)
    from turnstream.access import secrets_of
    from turnstream.cli.conversation import make_own_database, own_database
    from turnstream.cli.local_turn import LocalTurn
    from turnstream.config import load_settings
    from turnstream.telemetry import configure_logging

    settings = load_settings(arguments.config, flags={"server.debug": True})  # the user is the operator
    configure_logging("debug" if arguments.debug else "error", secrets=secrets_of(settings))
    if where == own_database():
        make_own_database()
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
    from turnstream.cli.terminal import OutputFailed

    try:
        async with ApprovalPrompt(watched, shown.fold.approvals, screen) as prompt:
            while (events := await watched.next()) is not None:
                for name, data in events:
                    if name == "turn_start" and where is not None:
                        _remember(where, data["chat_id"], data["turn_id"])
                shown.show(events)
                prompt.check()
    except (BrokenPipeError, OutputFailed):
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
        note = "[stopped]" if ending is not None else "[left: the turn may still continue]"
        screen.write([Piece(f"{note}\n", aside=True)])
        return SIGNALLED + (stopped_by or signal.SIGINT)
    if ending is None:
        raise TurnstreamError("the answer's stream ended without an end: ask again", code="stream_incomplete")
    if ending.name == "turn_error":
        raise TurnstreamError(f"{ending.data['error']} ({ending.data['code']})", code=ending.data["code"])
    if shown.fault is not None:
        raise InvalidOutput(f"the answer does not have the form of --schema: {shown.fault}")
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
turnstream ask "Describe it." -a photo.png -a notes.pdf -o temperature=0.2
turnstream ask "Name a city of Peru." --schema 'name, inhabitants int' > city.json
turnstream ask "Hello!" --json > answer.json
turnstream ask "Hello!" --ndjson > events.jsonl""",
    add_arguments,
    run,
)
