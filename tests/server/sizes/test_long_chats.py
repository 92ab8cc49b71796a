"""A chat of 1,000 turns blocks the event loop no longer than a short one. Work is counted as function calls
within one callback of the loop, so the machine's speed does not matter."""

from __future__ import annotations

import asyncio
import sys
from asyncio import events
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.server.live import SECONDS, Client, serving
from tests.turns.long_chats import InsertTurns, long_chat
from turnstream.engine import Engine

pytestmark = pytest.mark.fault(40)

TURNS = 1000
SHORT = 20
STRETCH = 4000
"""Calls of one callback, at most. The framework's work for one request takes half of them."""


class Stretches:
    """Counts the calls of each callback of the loop."""

    def __init__(self) -> None:
        self.longest = 0
        self.callbacks = 0
        self._calls = 0

    def begin(self) -> None:
        self.longest = max(self.longest, self._calls)
        self._calls = 0
        self.callbacks += 1

    def count(self, _frame: FrameType, event: str, _given: Any) -> None:
        if event in {"call", "c_call"}:
            self._calls += 1


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stretches]:
    """Count in this thread, which is the loop's."""
    stretches = Stretches()
    run = events.Handle._run

    def run_counted(handle: events.Handle) -> None:
        stretches.begin()
        run(handle)

    with monkeypatch.context() as patched:
        patched.setattr(events.Handle, "_run", run_counted)
        sys.setprofile(stretches.count)
        try:
            yield stretches
        finally:
            sys.setprofile(None)
    stretches.begin()


async def long_and_short(engine: Engine) -> tuple[InsertTurns, InsertTurns]:
    """A chat of many large turns, and a chat of a few."""
    chats: list[InsertTurns] = []
    for turns in (TURNS, SHORT):
        chat = await engine.commands.chats.create("local")
        chats.append(long_chat(chat.id, [[4000], [4000, 9]] * (turns // 2), system="s" * 3000))
        await engine._store.write(chats[-1])
    return chats[0], chats[1]


@pytest.mark.parametrize(
    "asked",
    ["/chats/{chat}/path", "/chats/{chat}/turns", "/chats/{chat}/path?limit=200", "/turns/{last}/siblings"],
)
async def test_reading_a_long_chat_holds_the_loop_no_longer_than_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port:
        found: list[Stretches] = []
        for chat in await long_and_short(engine):
            path = asked.format(chat=chat.turns[0].chat_id, last=chat.turns[-1].id)
            await Client(port).call("GET", path)  # what is made once is there
            with counted(monkeypatch) as stretches:
                answer = await Client(port).call("GET", path)
            assert answer.status == 200
            found.append(stretches)
        long, short = found
        assert long.longest <= STRETCH
        assert long.longest <= 2 * short.longest + 500


async def test_sending_to_a_long_chat_does_not_hold_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port:
        long, short = await long_and_short(engine)
        found: list[Stretches] = []
        for chat in (short, short, long):  # the first makes what is made once
            body = {
                "turn_blocks": [{"block_type": "text", "text_content": "go on"}],
                "prev_turn_id": chat.turns[-1].id,
                "model": "sim/echo:pace=0",
            }
            with counted(monkeypatch) as stretches:
                answer = await Client(port).call("POST", f"/chats/{chat.turns[0].chat_id}/turns", body)
                assert answer.status == 201
                turn_id = answer.json["assistant_turn"]["id"]
                async with asyncio.timeout(SECONDS):
                    await engine.commands.ended(turn_id)
            assert (await Client(port).call("GET", f"/turns/{turn_id}")).json["status"] == "complete"
            found.append(stretches)
        assert found[-1].longest <= STRETCH
