"""The hook of a host application that runs before a turn's first model call."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from tests.turns.world import SECONDS
from turnstream.config import EngineSettings, ServerSettings
from turnstream.core.blocks import Block, Message
from turnstream.engine import Engine
from turnstream.errors import TurnstreamError
from turnstream.server.auth import Principal
from turnstream.turns import preparation
from turnstream.turns.preparation import TurnPreparation

ECHO = EngineSettings(default_model="sim/echo")


async def answer(
    engine: Engine, text: str = "hello", **options: object
) -> tuple[str, str | None, str | None]:
    """The turn's text or error message, its error code, and its system prompt."""
    async with asyncio.timeout(SECONDS):
        turn = await engine.send(text, **options)
        state = await turn.wait()
    said = "".join(row.block.text_content or "" for row in state.blocks)
    return said or state.turn.error_message or "", state.turn.error_code, state.turn.system


async def test_the_hook_adds_messages_and_sees_the_principal(tmp_path: Path) -> None:
    seen: list[tuple[str, str, dict]] = []

    async def prepare(call: TurnPreparation, principal: Principal) -> None:
        seen.append((call.messages[-1].text, principal.owner, dict(principal.metadata)))
        call.context.append(Message("user", (Block(0, "text", "known: the sky is blue"),)))

    async with Engine(f"sqlite:///{tmp_path}/a.sqlite", settings=ECHO, prepare=prepare) as engine:
        text, code, _ = await answer(engine, metadata={"page": "/help"})
    assert (text, code) == ("known: the sky is blue\nhello", None)
    assert seen == [("hello", "local", {"page": "/help"})], "the hook runs once"


async def test_a_plain_function_runs_in_a_thread(tmp_path: Path) -> None:
    threads: list[threading.Thread] = []

    def prepare(call: TurnPreparation, principal: Principal) -> None:
        threads.append(threading.current_thread())

    async with Engine(f"sqlite:///{tmp_path}/a.sqlite", settings=ECHO, prepare=prepare) as engine:
        assert (await answer(engine))[0] == "hello"
    assert threads
    assert threading.main_thread() not in threads


@pytest.mark.parametrize("is_own", [True, False])
async def test_an_error_of_the_hook_ends_the_turn_with_its_message(tmp_path: Path, is_own: bool) -> None:
    def prepare(call: TurnPreparation, principal: Principal) -> None:
        if is_own:
            raise TurnstreamError("your quota is used up", code="quota")
        raise LookupError("secret")

    async with Engine(f"sqlite:///{tmp_path}/a.sqlite", settings=ECHO, prepare=prepare) as engine:
        message, code, _ = await answer(engine)
    assert "secret" not in message
    failed = "the source of this turn failed: try again; the server's log has the cause"
    assert (message, code) == (("your quota is used up", "quota") if is_own else (failed, "source_error"))


async def test_the_hook_has_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "PREPARE_SECONDS", 0.05)

    async def prepare(call: TurnPreparation, principal: Principal) -> None:
        await asyncio.Event().wait()

    async with Engine(f"sqlite:///{tmp_path}/a.sqlite", settings=ECHO, prepare=prepare) as engine:
        assert (await answer(engine))[1] == "prepare_timeout"


async def test_a_turn_can_be_stopped_while_it_is_prepared(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def prepare(call: TurnPreparation, principal: Principal) -> None:
        begun.set()
        await asyncio.Event().wait()

    settings = ServerSettings()
    async with Engine(
        f"sqlite:///{tmp_path}/a.sqlite", settings=ECHO, server=settings, prepare=prepare
    ) as engine:
        turn = await engine.send("hello")
        async with asyncio.timeout(SECONDS):
            await begun.wait()
            assert (await turn.interrupt()).turn.status == "cancelled"
