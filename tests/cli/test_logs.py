"""`turnstream logs` and `turnstream stats`, in the user's database and at a server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.cli.programs import Ended, run
from tests.cli.terminals import on_terminal
from tests.server.live import serving
from turnstream.engine import Engine

pytestmark = pytest.mark.requirement("L11")
ECHO = ("-m", "sim/echo:pace=0")


@pytest_asyncio.fixture(params=["database", "server"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[str, ...]]:
    """Options that name a place with two chats."""
    if request.param == "database":
        await _fill((), tmp_path)
        yield ()
        return
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port:
        options = ("--url", f"http://127.0.0.1:{port}")
        await _fill(options, tmp_path)
        yield options


async def _fill(options: tuple[str, ...], folder: Path) -> None:
    for arguments in (("Why is the sky blue?",), ("-c", "And at night?"), ("How old\n\x1b[2J is Rome?",)):
        ended = await run("ask", *arguments, *ECHO, *options, cwd=folder)
        assert ended.code == 0, ended.errors


async def test_chats_are_listed_searched_shown_and_exported(place: tuple[str, ...], tmp_path: Path) -> None:
    async def logs(*arguments: str) -> Ended:
        ended = await run("logs", *arguments, *place, cwd=tmp_path)
        assert ended.code == 0, ended.errors
        return ended

    rome, sky = (await logs()).output.splitlines()
    assert rome.endswith("How old \x1b[2J is Rome?"), "a pipe gets the text unchanged"
    assert sky.endswith("Why is the sky blue?")
    assert (await logs("-n", "1")).output.splitlines() == [rome]
    assert (await logs("search", "NIGHT")).output.splitlines() == [sky]
    assert (await logs("search", "nothing like it")).output == ""
    chat_id = sky.split()[0]
    shown = (await logs("show", chat_id)).output
    assert shown.count("## user") == 2
    assert "## assistant (sim/echo:pace=0, complete)\n\nAnd at night?\n" in shown
    exported = [json.loads(line) for line in (await logs("export")).output.splitlines()]
    assert {chat["chat"]["id"] for chat in exported} == {rome.split()[0], chat_id}
    (one,) = [json.loads(line) for line in (await logs("export", chat_id)).output.splitlines()]
    assert [turn["role"] for turn in one["turns"]] == ["user", "assistant"] * 2
    listed = [json.loads(line) for line in (await logs("--json")).output.splitlines()]
    assert [chat["id"] for chat in listed] == [rome.split()[0], chat_id]
    terminal = await on_terminal("logs", *place, cwd=tmp_path)
    assert "\x1b[2J" not in terminal.text
    assert "␛[2J" in terminal.text


async def test_statistics_are_by_model(place: tuple[str, ...], tmp_path: Path) -> None:
    ended = await run("stats", *place, cwd=tmp_path)
    assert ended.code == 0, ended.errors
    first, header, row = ended.output.splitlines()
    assert "3 complete, 0 error" in first
    assert header.split()[:2] == ["MODEL", "CALLS"]
    assert row.split()[:3] == ["sim/echo:pace=0", "3", "0"]
    whole = json.loads((await run("stats", "--days", "1", "--json", *place, cwd=tmp_path)).output)
    assert whole["turns"]["complete"] == 3
    assert whole["first_day"] == whole["last_day"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("logs",), 1, "there are no chats yet"),
        (("logs", "show"), 2, "name one chat"),
        (("logs", "search"), 2, "the text is missing"),
        (("logs", "list", "x"), 2, "takes no words"),
        (("logs", "-n", "0"), 2, "1 or more"),
        (("stats", "--days", "0"), 2, "1 to 366"),
        (("logs", "show", "x", "--database-url", "sqlite:///new.sqlite"), 1, "chat_id is not an id"),
    ],
)
async def test_a_wrong_request_is_named(
    arguments: tuple[str, ...], code: int, message: str, tmp_path: Path
) -> None:
    ended = await run(*arguments, cwd=tmp_path)
    assert (ended.code, ended.output) == (code, "")
    assert message in ended.errors
