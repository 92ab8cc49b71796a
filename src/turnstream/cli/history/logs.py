"""`turnstream logs`: lists, searches, shows and exports chats."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from turnstream.cli.command import Command
from turnstream.cli.history.place_options import add_place
from turnstream.errors import ConfigurationError

if TYPE_CHECKING:
    from turnstream.cli.history.api_reader import ApiReader
    from turnstream.cli.terminal import Screen
    from turnstream.client.answers import Chat, PathTurn

PAGE = 50
"""Chats that are read at a time."""
_TITLE = 60


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "action",
        nargs="?",
        choices=["list", "search", "show", "export"],
        default="list",
        help="list: the last chats; search: those with a text; show: print a chat; export: chats as lines of "
        "JSON",
    )
    parser.add_argument("words", metavar="ID|TEXT", nargs="*", help="the chats, or the text to search for")
    parser.add_argument("-n", "--limit", type=int, default=20, help="chats to list (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="list, search, show: print JSON")
    add_place(parser)


def run(arguments: Namespace) -> int:
    import asyncio

    if arguments.limit < 1:
        raise ConfigurationError("--limit has to be 1 or more")
    asyncio.run(_run(arguments))
    return 0


async def _run(arguments: Namespace) -> None:
    from turnstream.cli.history.api_reader import open_reader
    from turnstream.cli.terminal import Screen

    words: list[str] = arguments.words
    text = " ".join(words) if arguments.action == "search" else None
    if arguments.action == "show" and len(words) != 1:
        raise ConfigurationError("name one chat: turnstream logs show ID")
    if arguments.action == "search" and not text:
        raise ConfigurationError("the text is missing: turnstream logs search TEXT")
    if arguments.action == "list" and words:
        raise ConfigurationError("list takes no words: use turnstream logs search TEXT, or show ID")
    screen = Screen()
    async with open_reader(arguments) as reader:
        if arguments.action == "show":
            await _show(reader, words[0], screen, as_json=arguments.json)
        elif arguments.action == "export":
            await _export(reader, words, screen)
        else:
            await _list(reader, arguments.limit, text, screen, as_json=arguments.json)


async def _chats(reader: ApiReader, limit: int | None, search: str | None) -> AsyncGenerator[Chat]:
    """Yield chats, last changed first. `limit`: None for all."""
    from turnstream.client.answers import ChatPage

    left, before = limit, None
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        page = await reader.get("/chats", ChatPage, limit=size, before=before, search=search)
        for chat in page.chats:
            yield chat
        left, before = None if left is None else left - len(page.chats), page.next
        if before is None:
            return


async def _list(reader: ApiReader, limit: int, search: str | None, screen: Screen, *, as_json: bool) -> None:
    from turnstream.client.answers import ChatPath

    async for chat in _chats(reader, limit, search):
        if as_json:
            _write(screen, _json(chat))
            continue
        title = chat.title
        if title is None:  # show the last question
            path = await reader.get(_path_of(chat.id), ChatPath, limit=2, media="omit")
            title = next((_text(turn) for turn in path.turns if turn.role == "user"), "")
        _write(screen, f"{chat.id}  {chat.updated_at[:16].replace('T', ' ')}  {_short(title)}")


async def _show(reader: ApiReader, chat_id: str, screen: Screen, *, as_json: bool) -> None:
    from turnstream.client.answers import ChatPath

    if as_json:
        _write(screen, _json(await reader.get(_path_of(chat_id), dict[str, Any])))
        return
    path = await reader.get(_path_of(chat_id), ChatPath, media="omit")
    for turn in path.turns:
        name = turn.role if turn.role == "user" else f"{turn.role} ({turn.model}, {turn.status})"
        _write(screen, f"## {name}\n\n{_text(turn)}\n")


async def _export(reader: ApiReader, chat_ids: list[str], screen: Screen) -> None:
    from turnstream.client.answers import Chat

    if chat_ids:
        for chat_id in chat_ids:
            await _export_one(reader, await reader.get(f"/chats/{quote(chat_id, safe='')}", Chat), screen)
        return
    async for chat in _chats(reader, None, None):
        await _export_one(reader, chat, screen)


async def _export_one(reader: ApiReader, chat: Chat, screen: Screen) -> None:
    path = await reader.get(_path_of(chat.id), dict[str, Any])
    _write(screen, _json({"chat": chat, "turns": path["turns"]}))


def _path_of(chat_id: str) -> str:
    return f"/chats/{quote(chat_id, safe='')}/path"


def _text(turn: PathTurn) -> str:
    """Return the text of a turn. Other blocks are one line each."""
    from turnstream.terminal.block_summary import summary_of

    lines: list[str] = []
    for stored in turn.blocks:
        block = stored.block
        if block.block_type == "text":
            lines.append(block.text_content or "")
        elif (line := summary_of(block)) is not None:
            lines.append(line)
    return "\n\n".join(lines)


def _short(text: str) -> str:
    line = " ".join(text[: 4 * _TITLE].split())
    return line if len(line) <= _TITLE else f"{line[: _TITLE - 1]}…"


def _json(value: object) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()


def _write(screen: Screen, line: str) -> None:
    from turnstream.cli.terminal import Piece

    screen.write([Piece(f"{line}\n")])


COMMAND = Command(
    "logs",
    "list, search, show and export chats",
    "turnstream logs\nturnstream logs search 'blue sky'\n"
    "turnstream logs show 01a22a6a-9693-790e-acf6-2ebc33da0c01\n"
    "turnstream logs export > chats.jsonl\nturnstream logs --url http://127.0.0.1:8089 -n 5 --json",
    add_arguments,
    run,
)
