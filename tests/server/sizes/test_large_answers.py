"""Large JSON answers have the same content as before, are made in bounded parts off the event loop, and are
cut if the client takes nothing."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import SECONDS, Client, serving
from tests.server.test_slow_watchers import LOOK, STEP, Peer, until, until_stuck
from tests.turns.long_chats import InsertTurns, long_chat
from turnstream.engine import Engine
from turnstream.server import turn_json
from turnstream.server.sending import PIECE, SendData, SentBody
from turnstream.server.views import BlockView, TurnView
from turnstream.store.operations.deleting import DeleteChat
from turnstream.turns.chats import PATH_PORTION, ChatCommands

pytestmark = pytest.mark.fault(40)

LARGE = 90_000
MEGABYTES = 3 * 1024 * 1024

SHAPES: dict[str, list[list[int]]] = {
    "one small turn": [[3]],
    "many small turns": [[1], [2, 3]] * 40,
    "a turn of many large blocks": [[5], [LARGE] * 20, [5], [LARGE] * 3],
    "a huge block between small turns": [[5], [MEGABYTES], [5], [5]],
    "turns without blocks": [[], [], []],
}


@asynccontextmanager
async def chat_of(
    tmp_path: Path, sizes: Sequence[Sequence[int]], **fields: Any
) -> AsyncIterator[tuple[Engine, int, InsertTurns]]:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port:
        chat = await engine.commands.chats.create("local")
        insert = long_chat(chat.id, sizes, **fields)
        await engine._store.write(insert)
        yield engine, port, insert


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_answer_is_the_document_that_its_view_is(tmp_path: Path, shape: str) -> None:
    async with chat_of(tmp_path, SHAPES[shape], system="system " * 200) as (engine, port, insert):
        client = Client(port)
        chat_id, turn_id = insert.turns[0].chat_id, insert.turns[-1].id
        path = [await engine.commands.state("local", turn.id) for turn in insert.turns]
        assert [len(entry.blocks) for entry in path] == [len(lengths) for lengths in SHAPES[shape]]
        views = [TurnView.of_turn(entry.turn, entry.blocks).model_dump() for entry in path]
        answer = (await client.call("GET", f"/chats/{chat_id}/path")).json
        expected = [{**view, "siblings": [view["id"]], "events": []} for view in views]
        assert answer == {"chat_id": chat_id, "turns": expected, "previous": None}
        assert list(answer["turns"][-1])[-3:] == ["blocks", "siblings", "events"]
        listed = (await client.call("GET", f"/chats/{chat_id}/turns")).json
        assert listed == {"turns": [{**view, "blocks": []} for view in views], "previous": None}
        assert (await client.call("GET", f"/turns/{turn_id}")).json == views[-1]
        blocks = (await client.call("GET", f"/turns/{turn_id}/blocks")).json
        assert blocks["blocks"] == [BlockView.of(row).model_dump() for row in path[-1].blocks]
        assert blocks["current_block_index"] == (len(path[-1].blocks) - 1 if path[-1].blocks else None)


async def test_the_event_loop_makes_no_large_answer_and_parts_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[threading.Thread, int]] = []

    def watched(name: str) -> None:
        make = getattr(turn_json, name)

        def make_watched(*args: Any, **options: Any) -> bytes:
            part = make(*args, **options)
            made.append((threading.current_thread(), len(part)))
            return part

        monkeypatch.setattr(turn_json, name, make_watched)

    for name in ("portion_json", "_first_part", "_next_part"):
        watched(name)
    sizes = [[5], [LARGE] * 20, *[[1]] * 50, *[[LARGE // 4] * 3] * 8]
    async with chat_of(tmp_path, sizes, system="s" * 50_000) as (_, port, insert):
        client = Client(port)
        for path in (f"/chats/{insert.turns[0].chat_id}/path", f"/chats/{insert.turns[0].chat_id}/turns"):
            assert len((await client.call("GET", path)).json["turns"]) == len(sizes)
        await client.call("GET", f"/turns/{insert.turns[1].id}")
        await client.call("GET", f"/turns/{insert.turns[1].id}/blocks")
    assert threading.main_thread() not in {thread for thread, _ in made}
    one_more = 2 * LARGE + 60_000  # a block, and a turn's settings, may come on top
    assert max(size for _, size in made) <= PATH_PORTION.size + one_more
    assert len(made) > 40


async def expect_cut(peer: Peer) -> None:
    """Read to the end of an incomplete answer."""
    taken = bytearray()
    with suppress(ConnectionResetError):
        while piece := await peer.take(STEP):
            taken += piece
    peer.socket.close()
    assert taken
    assert not taken.endswith(b"0\r\n\r\n")


ASKED = ["/api/chats/{chat}/path", "/api/chats/{chat}/turns", "/api/turns/{turn}", "/api/turns/{turn}/blocks"]


@pytest.mark.parametrize("server", ["ours", "behind a middleware"])
@pytest.mark.parametrize("asked", ASKED)
async def test_a_client_that_takes_nothing_is_cut_and_a_slow_one_is_kept(
    tmp_path: Path, asked: str, server: str
) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    application = engine.application()
    if server != "ours":

        @application.middleware("http")
        async def passes_on(request, call_next):  # type: ignore[no-untyped-def]
            return await call_next(request)

    async with serving(application) as port:
        (looking,) = [task for task in engine._background._tasks if "keep-alive" in task.get_name()]
        looking.cancel()  # the test looks itself
        chat = await engine.commands.chats.create("local")
        insert = long_chat(chat.id, [[MEGABYTES], [MEGABYTES]], system="s" * 2 * MEGABYTES)
        await engine._store.write(insert)
        peer = Peer(port, asked.format(chat=chat.id, turn=insert.turns[0].id))
        keep_alive = engine._keep_alive
        async with asyncio.timeout(SECONDS):
            await peer.begin()
            await until(lambda: keep_alive.answers)
            (answer,) = keep_alive.answers
            await until_stuck(answer)  # type: ignore[arg-type]
            assert not keep_alive.streams  # it is no watcher
            now = asyncio.get_running_loop().time()
            for _ in range(6):
                await peer.take(STEP)
                await asyncio.sleep(0.02)
                now += LOOK
                keep_alive.check(now, LOOK)
            assert keep_alive.dropped == 0
            await until_stuck(answer)  # type: ignore[arg-type]
            while not keep_alive.dropped:
                now += LOOK
                keep_alive.check(now, LOOK)
            await until(lambda: not keep_alive.answers)
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            await expect_cut(peer)


async def test_what_waits_for_a_socket_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    portions = ChatCommands.portions
    asked: list[int] = []

    async def counted(self: ChatCommands, *args: Any) -> AsyncIterator[Any]:
        async for part in portions(self, *args):
            asked.append(len(part))
            yield part

    buffers: list[int] = []
    send = SentBody.send_pieces

    async def send_watched(self: SentBody, data: bytes, give: SendData) -> None:
        async def give_watched(piece: bytes) -> None:
            assert len(piece) <= PIECE
            await give(piece)
            assert self.unsent is not None
            connection = self.unsent.__self__  # type: ignore[attr-defined]
            buffers.append(connection.transport.get_write_buffer_size())

        await send(self, data, give_watched)

    monkeypatch.setattr(SentBody, "send_pieces", send_watched)
    async with chat_of(tmp_path, [[LARGE]] * 400) as (engine, port, insert):
        monkeypatch.setattr(ChatCommands, "portions", counted)
        peer = Peer(port, f"/api/chats/{insert.turns[0].chat_id}/path")
        async with asyncio.timeout(SECONDS):
            await peer.begin()
            await until(lambda: engine._keep_alive.answers)
            (answer,) = engine._keep_alive.answers
            await until_stuck(answer)  # type: ignore[arg-type]
            assert sum(asked) < 400 * LARGE  # it is not read ahead of its client
            assert max(buffers) <= 2 * PIECE + 4096
            peer.socket.close()
            await until(lambda: not engine._keep_alive.answers)


async def test_an_answer_whose_chat_is_deleted_meanwhile_has_no_end(tmp_path: Path) -> None:
    async with chat_of(tmp_path, [[LARGE]] * 400) as (engine, port, insert):
        chat_id = insert.turns[0].chat_id
        peer = Peer(port, f"/api/chats/{chat_id}/path")
        async with asyncio.timeout(SECONDS):
            await peer.begin()
            await until(lambda: engine._keep_alive.answers)
            (answer,) = engine._keep_alive.answers
            await until_stuck(answer)  # type: ignore[arg-type]
            await engine._store.write(DeleteChat(owner="local", chat_id=chat_id))
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            await expect_cut(peer)
            await until(lambda: not engine._keep_alive.answers)
        assert (await Client(port).call("GET", f"/chats/{chat_id}/path")).status == 404
