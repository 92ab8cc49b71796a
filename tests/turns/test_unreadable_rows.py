"""Rows that a start finds damaged or slow to read: the engine starts, every turn ends, and watchers come to the end."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from tests.turnlog.watching import Client
from tests.turns.world import OWNER, SECONDS, Feed, World, shows_text
from turnstream import engine as engine_module
from turnstream.core.blocks import Block
from turnstream.core.cursor import parse_cursor
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    TextDelta,
)
from turnstream.core.turn_events import Source
from turnstream.engine import Engine
from turnstream.server.views import TurnView
from turnstream.store.base import TurnRecord
from turnstream.store.queries import ListTurns
from turnstream.turns.commands import TurnState

KEPT = "kept"


async def leave_a_turn(world: World, text: str = KEPT) -> tuple[str, str | None]:
    """Begin a turn with a stored block, an annotation and a journalled one; return its id and what a watcher had seen."""
    feed = Feed()
    executor = await world.start_foreign(feed.events())
    await feed.say(
        ContentBlockStart(0, "text"), TextDelta(0, "whole"), ContentDelta(0, {"k": 1}), ContentBlockStop(0)
    )
    await feed.say(Source("s1"))
    await feed.say(ContentBlockStart(1, "text"), TextDelta(1, text))
    await world.journal.write()
    return executor.turn.id, str(executor.log.head_cursor)


async def leave_turns(path: Path, count: int) -> list[tuple[str, str | None]]:
    async with World(path) as world:
        left = [await leave_a_turn(world) for _ in range(count)]
        await world.crash()
    return left


def damage(path: Path, statement: str, *values: Any) -> None:
    connection = sqlite3.connect(path)
    try:
        assert connection.execute(statement, values).rowcount != 0, statement
        connection.commit()
    finally:
        connection.close()


async def watch_to_the_end(engine: Engine, turn_id: str, cursor: str | None = None) -> Client:
    client = Client()
    after = parse_cursor(cursor) if cursor is not None else None
    async with asyncio.timeout(SECONDS):
        subscription = await engine.subscribe(turn_id, owner=OWNER, after=after)
        while (data := await subscription.next()) is not None:
            client.receive(data)
    return client


async def state_of(engine: Engine, turn_id: str) -> TurnState:
    return await engine.commands.state(OWNER, turn_id)


def texts(client: Client) -> list[str | None]:
    return [block.text_content for block in client.now.blocks]


BAD_TEXTS = {
    "torn": '{"a": [1',
    "empty": "",
    "word": "nonsense",
    "list": "[1, 2]",
    "number": "5",
    "string": '"text"',
    "too_deep": "[" * 5000 + "]" * 5000,
    "null": "null",
}


@pytest.mark.fault(5)
@pytest.mark.parametrize("column", ["params", "metadata", "fences", "resets", "steps", "fallbacks"])
async def test_turns_whose_columns_cannot_be_read_end_with_their_text(tmp_path: Path, column: str) -> None:
    path = tmp_path / "turns.sqlite"
    damaged = dict(zip(BAD_TEXTS, await leave_turns(path, len(BAD_TEXTS)), strict=True))
    for bad, (turn_id, _) in damaged.items():
        damage(path, f"UPDATE turnstream_turns SET {column} = ? WHERE id = ?", BAD_TEXTS[bad], turn_id)
    async with Engine(f"sqlite:///{path}") as engine:
        for turn_id, cursor in damaged.values():
            client = await watch_to_the_end(engine, turn_id, cursor)
            assert client.frames[-1].data["code"] == "orphaned"
            assert texts(await watch_to_the_end(engine, turn_id)) == ["whole", KEPT]
            state = await state_of(engine, turn_id)
            assert (state.turn.status, state.turn.error_code) == ("error", "orphaned")
            for view in (
                TurnView.of(state.turn, state.blocks),
                *map(TurnView.of, await turns_of(engine, state)),
            ):
                view.model_dump_json()


async def turns_of(engine: Engine, state: TurnState) -> list[TurnRecord]:
    return await engine._store.read(ListTurns(owner=OWNER, chat_id=state.turn.chat_id))


@pytest.mark.fault(5)
async def test_blocks_whose_content_cannot_be_read_keep_their_text(tmp_path: Path) -> None:
    path = tmp_path / "turns.sqlite"
    damaged = dict(zip(BAD_TEXTS, await leave_turns(path, len(BAD_TEXTS)), strict=True))
    for bad, (turn_id, _) in damaged.items():
        damage(path, "UPDATE turnstream_blocks SET content = ? WHERE turn_id = ?", BAD_TEXTS[bad], turn_id)
    async with Engine(f"sqlite:///{path}") as engine:
        for turn_id, _ in damaged.values():
            client = await watch_to_the_end(engine, turn_id)
            assert client.frames[-1].data["code"] == "orphaned"
            assert texts(client) == ["whole", KEPT]
            assert [row.block for row in (await state_of(engine, turn_id)).blocks] == client.now.blocks


@pytest.mark.fault(5)
@pytest.mark.parametrize(
    "page",
    [
        b"not json",
        b"\xff\xfe\x00",
        b"\x91\xc0",
        b"",
        b"{}",
        b"[[1, 2]]",
        b'[["%s", 1, 0, "text", 4, 9, 7, null]]',
        b'[["%s", 1, 0, "text", "4", 9, "a", null]]',
        b"[" * 5000,
    ],
)
@pytest.mark.parametrize("as_text", [False, True])
async def test_a_page_of_the_journal_that_cannot_be_read_costs_its_own_text(
    tmp_path: Path, page: bytes, as_text: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "turns.sqlite"
    async with World(path) as world:
        lost, cursor = await leave_a_turn(world, "lost")
        kept, _ = await leave_a_turn(world)
        await world.crash()
    page = page % lost.encode() if b"%s" in page else page
    cast = "CAST(? AS TEXT)" if as_text else "?"
    first = "SELECT min(page) FROM turnstream_journal"
    damage(path, f"UPDATE turnstream_journal SET segments = {cast} WHERE page = ({first})", page)
    async with Engine(f"sqlite:///{path}") as engine:
        client = await watch_to_the_end(engine, lost, cursor)
        assert "truncated" in [frame.data.get("code") for frame in client.frames]
        assert client.frames[-1].data["code"] == "orphaned"
        assert texts(await watch_to_the_end(engine, lost)) == ["whole"]
        assert texts(await watch_to_the_end(engine, kept)) == ["whole", KEPT]
    assert "a page of the journal cannot be read" in caplog.text


@pytest.mark.fault(5)
async def test_text_after_an_unreadable_page_is_never_joined_to_text_before_it(tmp_path: Path) -> None:
    """The journal was written anew in that page: what follows has the numbers of what came before."""
    path = tmp_path / "turns.sqlite"
    async with World(path) as world:
        feed = Feed()
        executor = await world.start_foreign(feed.events())
        for word in ("one ", "two "):
            await feed.say(TextDelta(0, word))
            await world.journal.write()
        world.journal.hold()  # so that the older pages stay, as when the process dies before they are deleted
        world.journal._renew = True
        for word in ("three ", "four ", "five ", "six "):
            await feed.say(TextDelta(0, word))
            await world.journal.write()
        await world.crash()
    numbers = "SELECT page FROM turnstream_journal ORDER BY page LIMIT 1 OFFSET 2"
    damage(path, f"UPDATE turnstream_journal SET segments = 'x' WHERE page = ({numbers})")
    async with Engine(f"sqlite:///{path}") as engine:
        assert texts(await watch_to_the_end(engine, executor.turn.id)) == ["one two "]


@pytest.mark.fault(5)
@pytest.mark.parametrize("block_type", ["hologram", "", "tool_use"])
async def test_a_block_of_an_unknown_type_does_not_keep_its_turn_from_ending(
    tmp_path: Path, block_type: str
) -> None:
    path = tmp_path / "turns.sqlite"
    ((turn_id, _),) = await leave_turns(path, 1)
    damage(path, "UPDATE turnstream_blocks SET block_type = ? WHERE turn_id = ?", block_type, turn_id)
    damage(
        path, "UPDATE turnstream_journal SET segments = replace(segments, '\"text\"', ?)", f'"{block_type}"'
    )
    async with Engine(f"sqlite:///{path}") as engine:
        client = await watch_to_the_end(engine, turn_id)
        assert client.frames[-1].data["code"] == "orphaned"
        assert (await state_of(engine, turn_id)).turn.status == "error"
        live = await engine.send(
            "again",
            chat_id=(await state_of(engine, turn_id)).turn.chat_id,
            prev_turn_id=turn_id,
            model="sim/echo:pace=0",
        )
        assert (await live.wait()).turn.status == "complete"


@pytest.mark.fault(5)
@pytest.mark.parametrize("status", ["bogus", "", "COMPLETE"])
async def test_a_turn_of_an_unknown_status_ends_when_it_is_needed(tmp_path: Path, status: str) -> None:
    path = tmp_path / "turns.sqlite"
    ((turn_id, cursor), (other, _)) = await leave_turns(path, 2)
    damage(path, "UPDATE turnstream_turns SET status = ? WHERE role = 'assistant'", status)
    async with Engine(f"sqlite:///{path}") as engine:
        client = await watch_to_the_end(engine, turn_id, cursor)
        assert client.frames[-1].data["code"] == "orphaned"
        assert (await engine.commands.interrupt(OWNER, other)).turn.status == "error"


@pytest.mark.fault(5)
@pytest.mark.parametrize("column", ["generation", "last_seq", "created_at"])
async def test_a_number_that_is_none_ends_its_turn_alone(
    tmp_path: Path, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "turns.sqlite"
    ((turn_id, _), (other, _)) = await leave_turns(path, 2)
    damage(path, f"UPDATE turnstream_turns SET {column} = ? WHERE id = ?", "many", turn_id)
    async with Engine(f"sqlite:///{path}") as engine:
        query = "SELECT status FROM turnstream_turns WHERE id = ?"
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute(query, (turn_id,)).fetchone() == ("error",)
        assert texts(await watch_to_the_end(engine, other)) == ["whole", KEPT]
    if column == "generation":
        errors = [record for record in caplog.records if record.levelno == logging.ERROR]
        (record,) = [record for record in errors if turn_id in record.getMessage()]
        assert "TypeError" in record.getMessage()


@pytest.mark.fault(5)
async def test_text_that_is_not_utf8_is_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "turns.sqlite"
    ((turn_id, _), (other, _)) = await leave_turns(path, 2)
    damage(
        path,
        "UPDATE turnstream_blocks SET text_content = CAST(? AS TEXT) WHERE turn_id = ?",
        b"a\xffb",
        turn_id,
    )
    damage(path, "UPDATE turnstream_turns SET system = CAST(? AS TEXT) WHERE id = ?", b"\xc3", turn_id)
    async with Engine(f"sqlite:///{path}") as engine:
        assert texts(await watch_to_the_end(engine, turn_id)) == ["a\ufffdb", KEPT]
        assert texts(await watch_to_the_end(engine, other)) == ["whole", KEPT]


# -- slow reads ----------------------------------------------------------------------------------------------------


class SlowEngine(Engine):
    """An engine whose histories are held until `go_on` is set, with a short deadline for requests' reads."""

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
    """Turns of models, which have a history whose size is estimated."""
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
    monkeypatch.setattr(engine_module, "RECOVERY_HEAD_START", 0.05)
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
    monkeypatch.setattr(engine_module, "RECOVERY_HEAD_START", 0.05)
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
            for task in engine._tasks:  # it dies here: nothing is ended any more
                task.cancel()
            await asyncio.gather(*engine._tasks, return_exceptions=True)
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
    monkeypatch.setattr("turnstream.turns.recovery._RETRY_SECONDS", 0.05)
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
    """Storage works, but for one row of one turn: the others, and the journal, do not wait for it for ever."""
    monkeypatch.setattr("turnstream.turns.recovery._RETRY_SECONDS", 0.05)
    monkeypatch.setattr("turnstream.turns.recovery._GIVE_UP_SECONDS", 0.02)
    path = tmp_path / "turns.sqlite"
    ((turn_id, cursor), (other, _)) = await leave_turns(path, 2)
    refuse = "SELECT raise(ABORT, 'refused')"
    damage(
        path,
        "CREATE TRIGGER refused BEFORE INSERT ON turnstream_blocks "
        f"WHEN NEW.turn_id = '{turn_id}' BEGIN {refuse}; END",
    )
    async with asyncio.timeout(SECONDS), Engine(f"sqlite:///{path}") as engine:
        recovering = next(task for task in engine._tasks if "recovery" in task.get_name())
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


@pytest.mark.fault(5)
@pytest.mark.parametrize("role", ["robot", "", b"\xff", 7])
async def test_a_turn_of_an_unknown_role_ends_too(tmp_path: Path, role: Any) -> None:
    path = tmp_path / "turns.sqlite"
    ((turn_id, cursor),) = await leave_turns(path, 1)
    damage(path, "UPDATE turnstream_turns SET role = ? WHERE id = ?", role, turn_id)
    async with Engine(f"sqlite:///{path}") as engine:
        client = await watch_to_the_end(engine, turn_id, cursor)
        assert client.frames[-1].data["code"] == "orphaned"
        assert (await state_of(engine, turn_id)).turn.status == "error"
