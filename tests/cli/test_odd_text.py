"""Bytes that are not text, in arguments and on standard input, become U+FFFD, and the command continues."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.programs import run
from tests.server.live import serving
from turnstream.client import AsyncClient
from turnstream.engine import Engine

pytestmark = pytest.mark.fault(31)

ECHO = "sim/echo:pace=0"


@pytest.mark.parametrize("locale", ["C.UTF-8", "C", "POSIX"])
async def test_arguments_that_are_not_text_are_asked(locale: str, tmp_path: Path) -> None:
    question, system = os.fsdecode(b"caf\xe9 \xff!"), os.fsdecode(b"br\xe8f")
    ended = await run(
        "ask", question, "-s", system, "-m", ECHO, cwd=tmp_path, environ={"LC_ALL": locale, "LANG": locale}
    )
    assert ended.code == 0, ended.errors
    assert "caf\ufffd \ufffd!" in ended.output


@pytest.mark.parametrize(
    ("given", "seen"),
    [(b"caf\xe9\n", "caf\ufffd"), (b"\xff\xfeh\x00i\x00", "\ufffd\ufffdh"), (b"\xed\xa0\x80 x", "\ufffd x")],
)
async def test_standard_input_that_is_not_text_is_asked(given: bytes, seen: str, tmp_path: Path) -> None:
    ended = await run("ask", "Say:", "-", "-m", ECHO, cwd=tmp_path, given=given)
    assert ended.code == 0, ended.errors
    assert seen in ended.output


async def test_a_server_is_asked_the_same(tmp_path: Path) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port:
        url = f"http://127.0.0.1:{port}"
        ended = await run(
            "ask", os.fsdecode(b"caf\xe9"), "-", "-m", ECHO, "--url", url, cwd=tmp_path, given=b"\xff"
        )
        assert ended.code == 0, ended.errors
        assert "caf\ufffd\n\n\ufffd" in ended.output
        async with AsyncClient(url) as client:
            chat = await client.chats.create("half \ud83d", {"k\ud800": ["\udc80"]})
            assert (chat.title, chat.metadata) == ("half \ufffd", {"k\ufffd": ["\ufffd"]})
            turn = await client.send("half \ud83d", chat_id=chat.id, model=ECHO, system="\udfff")
            answer = await turn.wait()
    assert "half \ufffd" in answer.text


async def test_the_engine_is_asked_the_same(tmp_path: Path) -> None:
    async with Engine(f"sqlite:///{tmp_path}/turns.sqlite") as engine:
        metadata = {"k": "\ud83d", "both": "\ud83d\ude00"}
        turn = await engine.send("half \ud83d", model=ECHO, system="\ud800", metadata=metadata)
        state = await turn.wait()
    started = turn.started
    assert started.assistant_turn.metadata == {"k": "\ufffd", "both": "😀"}
    assert started.assistant_turn.system == "\ufffd"
    assert started.user_blocks[0].block.text_content == "half \ufffd"
    assert "half \ufffd" in (state.blocks[0].block.text_content or "")
