"""Titles that a model makes, and their cost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from turnstream import chat_titles, config
from turnstream.core.usage import CallAttempt, Usage
from turnstream.engine import Engine
from turnstream.store.base import ChatRecord
from turnstream.store.operations.titles import SetMadeTitle
from turnstream.store.queries import GetChat

PRICES = {"sim/echo": config.PriceSettings(input_per_million=Decimal(1000), output_per_million=Decimal(2000))}


class Logged(logging.Handler):
    """Collects messages of the log, and wakes the test that waits for one."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""
        self._came = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage() + "\n"
        self._came.set()

    async def wait_for(self, text: str) -> None:
        async with asyncio.timeout(10):
            while text not in self.text:
                self._came.clear()
                await self._came.wait()


@pytest.fixture
def logged() -> Iterator[Logged]:
    handler = Logged()
    chat_titles.logger.addHandler(handler)
    yield handler
    chat_titles.logger.removeHandler(handler)


def engine(folder: Path, title_model: str | None) -> Engine:
    settings = config.EngineSettings(default_model="sim/echo", title_model=title_model)
    return Engine(f"sqlite:///{folder}/titles.sqlite", settings=settings, prices=PRICES)


async def answered(running: Engine, text: str, **options: Any) -> tuple[str, str]:
    """Send a text, and return the chat and the turn of its answer, which has ended."""
    turn = (await running.send(text, **options)).started.assistant_turn
    await running.commands.ended(turn.id)
    return turn.chat_id, turn.id


async def chat_when(running: Engine, chat_id: str, title: str) -> ChatRecord:
    """Return the chat when it has the title."""
    async with asyncio.timeout(10):
        while True:
            changed = asyncio.Event()
            running.commands.store.on_change = lambda _owner, changed=changed: changed.set()
            chat = await running.commands.store.read(GetChat(owner="local", chat_id=chat_id))
            if chat.title == title:
                return chat
            await changed.wait()


async def test_the_first_answer_gives_the_chat_a_title_and_pays_for_it(tmp_path: Path) -> None:
    async with engine(tmp_path, "sim/echo") as running:
        chat_id, turn_id = await answered(running, "Why is the sky blue?")
        await chat_when(running, chat_id, "Question:")
        state = await running.commands.state("local", turn_id)
        answer, title = state.attempts
        assert (answer.step, title.step) == (0, 1)
        assert title.usage.input_tokens is not None
        assert answer.usage.plus(title.usage) == state.turn.usage
        assert Decimal(state.turn.cost or "") == Decimal(answer.cost or "") + Decimal(title.cost or "")
        assert Decimal(title.cost or "") > 0
        # The second answer makes no title.
        _, later = await answered(running, "And at night?", chat_id=chat_id, prev_turn_id=turn_id)
        other, _ = await answered(running, "Another chat")
        await chat_when(running, other, "Question:")
        assert len((await running.commands.state("local", later)).attempts) == 1


async def test_a_title_that_a_restart_prevented_is_made_after_the_next_answer(tmp_path: Path) -> None:
    async with engine(tmp_path, None) as stopped:
        chat = await stopped.commands.chats.create(
            "local", title="Why is the sky", metadata={chat_titles.PROVISIONAL: True}
        )
        named = await stopped.commands.chats.create(
            "local", title="My own", metadata={chat_titles.PROVISIONAL: True}
        )
        _, first = await answered(stopped, "Why is  the sky\nblue?", chat_id=chat.id)
        _, other = await answered(stopped, "Why?", chat_id=named.id)
    async with engine(tmp_path, "sim/echo") as running:
        await answered(running, "Really?", chat_id=named.id, prev_turn_id=other)
        _, second = await answered(running, "And at night?", chat_id=chat.id, prev_turn_id=first)
        await chat_when(running, chat.id, "Question:")
        answer, title = (await running.commands.state("local", second)).attempts
        assert (answer.step, title.step) == (0, 1)
        assert len((await running.commands.state("local", first)).attempts) == 1
        # A title that the owner gave stays, also if the chat's metadata says that it may be replaced.
        assert (await running.commands.store.read(GetChat(owner="local", chat_id=named.id))).title == "My own"


async def test_only_the_first_answers_of_a_chat_make_a_title(tmp_path: Path) -> None:
    async with engine(tmp_path, None) as stopped:
        chat_id, last = await answered(stopped, "One")
        for text in ("Two", "Three")[: chat_titles.MAX_ANSWERS - 1]:
            _, last = await answered(stopped, text, chat_id=chat_id, prev_turn_id=last)
    async with engine(tmp_path, "sim/echo") as running:
        _, late = await answered(running, "Four", chat_id=chat_id, prev_turn_id=last)
        for text in ("Another chat", "A third chat"):
            other, _ = await answered(running, text)
            await chat_when(running, other, "Question:")
        assert len((await running.commands.state("local", late)).attempts) == 1
        assert (await running.commands.store.read(GetChat(owner="local", chat_id=chat_id))).title is None


async def test_a_title_of_a_person_stays_and_a_provisional_one_is_replaced(tmp_path: Path) -> None:
    async with engine(tmp_path, "sim/echo") as running:
        own = await running.commands.chats.create("local", title="My own")
        await answered(running, "Hello", chat_id=own.id)
        provisional = await running.commands.chats.create(
            "local", title="Hello", metadata={chat_titles.PROVISIONAL: True}
        )
        await answered(running, "Hello", chat_id=provisional.id)
        await chat_when(running, provisional.id, "Question:")
        assert (await running.commands.store.read(GetChat(owner="local", chat_id=own.id))).title == "My own"


async def test_a_title_that_changes_meanwhile_stays_and_the_calls_are_booked_once(tmp_path: Path) -> None:
    async with engine(tmp_path, None) as running:
        chat_id, turn_id = await answered(running, "Hello")
        before = (await running.commands.state("local", turn_id)).turn
        assert before.cost is not None
        await running.commands.chats.update("local", chat_id, title="Renamed")
        call = CallAttempt(1, 1, "sim/echo", "complete", 1, 0.5, Usage(input_tokens=7), "0.250000")
        made = SetMadeTitle(
            turn_id=turn_id, owner="local", chat_id=chat_id, known=None, title="Made", calls=(call,)
        )
        for _ in range(2):
            assert await running.commands.store.write(made) is False
        state = await running.commands.state("local", turn_id)
        assert state.turn.usage == before.usage.plus(call.usage)
        assert Decimal(state.turn.cost or "") == Decimal(before.cost) + Decimal("0.25")
        assert (await running.commands.store.read(GetChat(owner="local", chat_id=chat_id))).title == "Renamed"


async def test_a_model_that_does_not_exist_leaves_the_chat_as_it_is(tmp_path: Path, logged: Logged) -> None:
    async with engine(tmp_path, "sim/unknown-model") as running:
        chat_id, turn_id = await answered(running, "Hello")
        await logged.wait_for("gets no title")
        assert (await running.commands.store.read(GetChat(owner="local", chat_id=chat_id))).title is None
        turn = (await running.commands.state("local", turn_id)).turn
        assert Decimal(turn.cost or "") > 0


async def test_a_title_that_takes_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    monkeypatch.setattr(chat_titles, "TITLE_SECONDS", 0.2)
    async with engine(tmp_path, "sim/story:events=1000,pace=1") as running:
        await answered(running, "Hello")
        await logged.wait_for("TimeoutError")
        assert running.active_turns == 0
