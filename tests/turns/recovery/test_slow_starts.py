"""Rows that a start reads slowly, and ends that storage refuses."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest
from sqlalchemy import event

from tests.turns.recovery.left_turns import KEPT, damage, leave_turns, state_of, texts, watch_to_the_end
from tests.turns.world import OWNER, SECONDS, Feed, World, shows_text
from turnstream import background_work
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    TextDelta,
)
from turnstream.engine import Engine

# -- slow reads
# ----------------------------------------------------------------------------------------------------


class SlowEngine(Engine):
    """An engine whose histories are held until `go_on` is set, with a short deadline for the reads of
    requests."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"sqlite:///{path}")
        self._store._read_timeout = 0.3
        self.go_on = threading.Event()
        opened = self._store.open

        async def open_slowly() -> None:
            await opened()
            assert self._store._readers is not None
            event.listen(self._store._readers._engine, "before_cursor_execute", self._hold)

        self._store.open = open_slowly  # type: ignore[method-assign]

    def _hold(self, _connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "RECURSIVE" in statement:
            assert self.go_on.wait(SECONDS)


async def leave_asked_turns(path: Path, count: int) -> list[str]:
    """Turns of models. Their histories have sizes that must be estimated."""
    async with World(path) as world:
        left: list[str] = []
        for _ in range(count):
            started = await world.ask("why?", model="sim/story:events=100000,pace=0.001")
            left.append(started.assistant_turn.id)
            await shows_text(world.executor(left[-1]))
        await world.journal.write()
        await world.crash()
    return left


@pytest.mark.fault(5)
async def test_slow_histories_do_not_hold_up_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_work, "RECOVERY_HEAD_START", 0.05)
    path = tmp_path / "turns.sqlite"
    left = await leave_asked_turns(path, 4)
    engine = SlowEngine(path)
    try:
        async with asyncio.timeout(SECONDS), engine:
            assert not engine.go_on.is_set()
            chat = await engine.commands.chats.create(OWNER)
            live = await engine.send("hello", chat_id=chat.id, model="sim/echo:pace=0")
            assert (await live.wait()).turn.status == "complete"
            watching = [asyncio.create_task(watch_to_the_end(engine, turn_id)) for turn_id in left]
            done, _ = await asyncio.wait(watching, timeout=0.5)
            assert not done, "a turn whose history is not read has ended"
            engine.go_on.set()
            for client in await asyncio.gather(*watching):
                assert client.frames[-1].data["code"] == "orphaned"
                assert client.frames[-1].data["usage"]["input_tokens"] == 1
                assert client.now.blocks[0].partial
            for turn_id in left:
                assert (await state_of(engine, turn_id)).turn.cost_estimated
    finally:
        engine.go_on.set()


@pytest.mark.fault(5)
async def test_the_journal_of_a_lost_turn_stays_until_the_turn_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new process writes its own journal meanwhile, and may die before it has recovered anything."""
    monkeypatch.setattr(background_work, "RECOVERY_HEAD_START", 0.05)
    path = tmp_path / "turns.sqlite"
    (left,) = await leave_asked_turns(path, 1)
    engine = SlowEngine(path)
    try:
        async with asyncio.timeout(SECONDS):
            await engine.__aenter__()
            feed = Feed()
            live = await engine.start(feed.events())
            await feed.say(TextDelta(0, "new"))
            for _ in range(3):
                engine._journal._renewed_at = -1000.0  # as if a minute had passed
                await engine._journal.write()
            for task in engine._background._tasks:  # it dies here: nothing is ended any more
                task.cancel()
            await asyncio.gather(*engine._background._tasks, return_exceptions=True)
            executor = engine._registry.get(live.id)
            assert executor is not None
            assert executor.task is not None
            executor.task.cancel()
            await asyncio.wait([executor.task])
            engine.go_on.set()
            await engine.commands.recovery.close()
            await engine.catalog.close()
            await engine._store.close()
    finally:
        engine.go_on.set()
    async with Engine(f"sqlite:///{path}") as again:
        client = await watch_to_the_end(again, left)
        assert client.now.blocks[0].text_content
        assert client.now.blocks[0].partial


@pytest.mark.fault(5)
async def test_turns_are_ended_once_storage_works_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnstream.turns.takeover.recovery._RETRY_SECONDS", 0.05)
    path = tmp_path / "turns.sqlite"
    ((turn_id, cursor),) = await leave_turns(path, 1)
    engine = Engine(f"sqlite:///{path}")
    damage(
        path,
        "CREATE TRIGGER broken BEFORE UPDATE ON turnstream_turns BEGIN SELECT raise(ABORT, 'broken'); END",
    )
    async with asyncio.timeout(SECONDS), engine:
        damage(path, "DROP TRIGGER broken")
        client = await watch_to_the_end(engine, turn_id, cursor)
        assert client.frames[-1].data["code"] == "orphaned"
        assert [row.block for row in (await state_of(engine, turn_id)).blocks] == [
            Block(0, "text", "whole", {"k": 1}),
            Block(1, "text", KEPT, partial=True),
        ]


@pytest.mark.fault(5)
async def test_a_turn_whose_end_is_always_refused_is_ended_without_its_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Storage refuses only one row of one turn. The other turns, and the journal, do not wait for it for
    ever."""
    monkeypatch.setattr("turnstream.turns.takeover.recovery._RETRY_SECONDS", 0.05)
    monkeypatch.setattr("turnstream.turns.takeover.recovery._ABANDON_SECONDS", 0.02)
    path = tmp_path / "turns.sqlite"
    ((turn_id, cursor), (other, _)) = await leave_turns(path, 2)
    refuse = "SELECT raise(ABORT, 'refused')"
    damage(
        path,
        "CREATE TRIGGER refused BEFORE INSERT ON turnstream_blocks "
        f"WHEN NEW.turn_id = '{turn_id}' BEGIN {refuse}; END",
    )
    async with asyncio.timeout(SECONDS), Engine(f"sqlite:///{path}") as engine:
        recovering = next(task for task in engine._background._tasks if "recovery" in task.get_name())
        await recovering
        assert not engine._journal._is_held
        client = await watch_to_the_end(engine, turn_id, cursor)
        assert client.frames[-1].data["code"] == "database_error"
        assert texts(client) == ["whole"]
        assert texts(await watch_to_the_end(engine, other)) == ["whole", KEPT]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [
        record for record in errors if turn_id in record.getMessage() and "refused" in record.getMessage()
    ]
