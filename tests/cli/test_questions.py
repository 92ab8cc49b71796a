"""Files, parameters, tools, formats and templates of a question, in the process and at a server."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.cli.programs import Ended, run
from tests.server.live import serving
from turnstream.client import AsyncClient
from turnstream.engine import Engine

pytestmark = pytest.mark.requirement("L8")
ECHO = ("-m", "sim/echo:pace=0")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
FUNCTIONS = '''
from os.path import join

def lookup(city: str) -> str:
    """Look a city up."""
    return f"{city} is far"

def _hidden() -> str:
    return join("a", "b")
'''


@pytest_asyncio.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite", tools=[_far])
    async with serving(engine.application()) as port:
        yield f"http://127.0.0.1:{port}"


def _far(city: str) -> str:
    """Tell the way."""
    return f"{city} is far"


async def asked(*arguments: str, cwd: Path, **given: Any) -> dict[str, Any]:
    """Ask, and return the object of `--json`."""
    ended = await run("ask", *arguments, "--json", cwd=cwd, **given)
    assert ended.code == 0, ended.errors
    return json.loads(ended.output)


async def failed(*arguments: str, cwd: Path, **given: Any) -> Ended:
    ended = await run("ask", *arguments, *ECHO, cwd=cwd, **given)
    assert ended.code == 2, ended
    assert ended.output == ""
    return ended


async def test_attachments_and_params_reach_the_turn(url: str, tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(PNG)  # the content decides, not the name
    (tmp_path / "paper.pdf").write_bytes(b"%PDF-1.7 x")
    (tmp_path / "notes.txt").write_text("Grüße", encoding="utf-8")
    files = (
        "-a",
        "photo",
        "-a",
        "paper.pdf",
        "-a",
        "notes.txt",
        "-a",
        "https://example.com/A.JPG?x=1",
        "-a",
        "-",
    )
    options = ("-o", "temperature=0.2", "-o", "thinking.effort=low", "-o", 'stop=["x"]', "-o", "seed=a=b")
    answer = await asked("Look:", *ECHO, *files, *options, "--url", url, cwd=tmp_path, given=b"from a pipe")
    async with AsyncClient(url) as client:
        turn = await client.read(answer["turn_id"])
        path = await client.chats.path(answer["chat_id"])
    user = next(turn for turn in path.turns if turn.role == "user")
    contents = [block.content or {} for block in user.blocks]
    assert [block.block_type for block in user.blocks] == [
        "text",
        "image",
        "document",
        "document",
        "image",
        "document",
    ]
    assert contents[1]["media_type"] == "image/png"
    assert (contents[2]["media_type"], contents[2]["title"]) == ("application/pdf", "paper.pdf")
    assert contents[3] == {"text": "Grüße", "title": "notes.txt"}
    assert contents[4] == {"url": "https://example.com/A.JPG?x=1"}
    assert contents[5] == {"text": "from a pipe", "title": "standard input"}
    assert turn.params == {"temperature": 0.2, "thinking": {"effort": "low"}, "stop": ["x"], "seed": "a=b"}


async def test_attachments_are_a_question_too(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    answer = await asked("-a", "notes.txt", *ECHO, cwd=tmp_path)
    assert answer["status"] == "complete"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x", "-a", "nothing.png"), "-a nothing.png: the file cannot be read"),
        (("x", "-a", "binary"), "models read PNG, JPEG, GIF, WebP, PDF and UTF-8 text"),
        (("x", "-a", "empty"), "-a empty: the file is empty"),
        (("x", "-o", "nonsense"), "is not KEY=VALUE"),
        (("x", "--schema", "name, age number of years"), "is not a field"),
        (("x", "--schema", "{"), "--schema is not valid JSON"),
        (("x", "--functions", "broken.py"), "failed when it was run (ZeroDivisionError"),
        (("x", "--functions", "empty"), "is not a Python file"),
        (("x", "--functions", "none.py"), "defines no public function"),
        (("x", "--functions", "none.py", "--url", "http://127.0.0.1:9"), "leave out --url"),
        (("x", "--chat", "a", "-c"), "not both"),
        (("x", "--chat", "a", "--no-store"), "leave it out"),
        (("x", "-t", "../x"), "cannot name a template"),
    ],
)
async def test_a_wrong_option_is_named(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\x00\xff")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "none.py").write_text("import os")
    assert message in (await failed(*arguments, cwd=tmp_path)).errors


async def test_functions_of_a_file_are_tools(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(FUNCTIONS)
    ended = await run(
        "ask", "x", "-m", "sim/tools:pace=0", "--functions", "tools.py", "-T", "lookup", cwd=tmp_path
    )
    assert ended.code == 0, ended.errors
    assert "→ lookup" in ended.errors
    assert "is far" in ended.output
    assert "_hidden" not in ended.errors


async def test_named_tools_are_the_only_ones(url: str, tmp_path: Path) -> None:
    here = await run("ask", "x", "-m", "sim/tools:pace=0", "-T", "clock", cwd=tmp_path)
    assert "→ clock" in here.errors, "a built-in tool that is named needs no settings"
    there = await run("ask", "x", "-m", "sim/tools:pace=0", "-T", "_far", "--url", url, cwd=tmp_path)
    assert "→ _far" in there.errors
    refused = await run("ask", "x", *ECHO, "-T", "nothing", "--url", url, cwd=tmp_path)
    assert refused.code == 1
    assert "nothing" in refused.errors


PERSON = '{"name": "Ada", "age": 36, "tags": []}'


@pytest.mark.parametrize("schema", ["name, age int, tags str[]", '{"type": "object"}', "schema.json"])
async def test_a_schema_gives_json(schema: str, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"type": "object", "required": ["name"]}')
    ended = await run("ask", f"```json\n{PERSON}\n```", *ECHO, "--schema", schema, cwd=tmp_path)
    assert ended.code == 0, ended.errors
    assert json.loads(ended.output) == json.loads(PERSON)
    assert len(ended.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("answer", "fault"),
    [("no JSON", "Expecting value"), ('{"age": 3}', "'name' is missing"), ("[1]", "list")],
)
async def test_an_answer_in_another_form_is_a_failure(answer: str, fault: str, tmp_path: Path) -> None:
    ended = await run("ask", answer, *ECHO, "--schema", "name, age int", cwd=tmp_path)
    assert (ended.code, ended.output) == (1, "")
    assert "does not have the form of --schema" in ended.errors
    assert fault in ended.errors


async def test_a_chat_is_continued_by_its_id(url: str, tmp_path: Path) -> None:
    for place in ((), ("--url", url)):
        first = await asked("one", *ECHO, *place, cwd=tmp_path)
        await asked("other", *ECHO, *place, cwd=tmp_path)
        second = await asked("two", "--chat", first["chat_id"], *place, cwd=tmp_path)
        assert second["chat_id"] == first["chat_id"]
        assert second["model"] == first["model"], "the chat keeps its model"


async def test_only_the_user_can_read_what_is_kept(tmp_path: Path) -> None:
    await asked("one", *ECHO, cwd=tmp_path)
    files = [*(tmp_path / "data").rglob("*"), *(tmp_path / "state").rglob("*")]
    assert {file.name for file in files} >= {"turnstream", "chats.sqlite", "last-asked.json"}
    for file in files:
        if file.suffix == ".lock":
            continue  # the number of a process, in a folder that only the user can open
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
    before = (tmp_path / "data" / "turnstream" / "chats.sqlite").read_bytes()
    answer = await asked("secret", *ECHO, "--no-store", cwd=tmp_path)
    assert answer["blocks"][0]["text_content"] == "secret"
    assert (tmp_path / "data" / "turnstream" / "chats.sqlite").read_bytes() == before


async def test_a_template_asks(tmp_path: Path) -> None:
    folder = tmp_path / "config" / "turnstream" / "templates"
    folder.mkdir(parents=True)
    (folder / "greet.toml").write_text(
        'prompt = "Say $word to $input"\nmodel = "sim/echo:pace=0"\n[defaults]\nword = "hello"\n[params]\nseed = 1\n'
    )
    (folder / "bad.toml").write_text("promt = 1")
    ended = await run("ask", "-t", "greet", "Ada", cwd=tmp_path)
    assert (ended.code, ended.output) == (0, "Say hello to Ada\n")
    ended = await run("ask", "-t", "greet", "-p", "word=bye", "Ada", cwd=tmp_path)
    assert ended.output == "Say bye to Ada\n"
    assert "not a valid template" in (await run("ask", "x", "-t", "bad", cwd=tmp_path)).errors
    missing = await run("ask", "x", "-t", "none", cwd=tmp_path)
    assert missing.code == 1
    assert "there are: bad, greet" in missing.errors


async def test_templates_are_listed_shown_and_edited(tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho \'prompt = "Short: $input"\' > "$1"\n')
    editor.chmod(0o700)
    environ = {"EDITOR": str(editor), "VISUAL": ""}
    assert (await run("templates", "edit", "short", cwd=tmp_path, environ=environ)).code == 0
    assert (await run("templates", "list", cwd=tmp_path)).output == "short\n"
    assert "Short: $input" in (await run("templates", "show", "short", cwd=tmp_path)).output
    path = (await run("templates", "path", "short", cwd=tmp_path)).output.strip()
    assert path == str(tmp_path / "config" / "turnstream" / "templates" / "short.toml")
    assert (await run("templates", "edit", "x", cwd=tmp_path, environ={"EDITOR": "", "VISUAL": ""})).code == 2
