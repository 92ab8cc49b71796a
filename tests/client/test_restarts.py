"""One client, and servers that restart under it: 100 times in one turn, and as real processes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.client.frames import START, TURN_ID, told
from tests.client.restarting import Cuts, Life, RestartingServer, process
from tests.client.scripted_server import Asked, Reply, ScriptedServer
from turnstream.client import AsyncClient, AsyncClientConversation, AsyncTurn, Retry
from turnstream.config import EngineSettings
from turnstream.core.blocks import Block
from turnstream.core.cursor import SEQ_STRIDE, parse_cursor
from turnstream.core.turn_events import BlockCatchup, BlockDelta, Notice, TurnComplete, TurnEvent
from turnstream.engine import VERSION, Engine
from turnstream.server.application import build_application

RESTARTS = 100
RETRY = Retry(first_delay=0.005, max_delay=0.02, budget=20, idle=10)
SECONDS = 30.0

pytestmark = pytest.mark.requirement("F6", "P1", "C3", "D7")


class Watching:
    """Iterates a turn in a task, and lets a test wait for a state of the turn."""

    def __init__(self, turn: AsyncTurn) -> None:
        self.turn = turn
        self._moved = asyncio.Condition()
        self.task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while await self.turn.native() is not None:
            async with self._moved:
                self._moved.notify_all()

    async def until(self, condition: Callable[[AsyncTurn], bool]) -> None:
        async with asyncio.timeout(SECONDS), self._moved:
            await self._moved.wait_for(lambda: condition(self.turn) or self.task.done())
        if self.task.done():
            self.task.result()
        assert condition(self.turn)


async def test_a_hundred_restarts_of_the_server_in_one_turn(tmp_path: Path) -> None:
    """The engine keeps running, like a host application that reloads its web server, and the model keeps
    writing. Each server dies after a random number of bytes: the first ones within their answer to the POST,
    the others within the stream's head, within a frame, or between two frames. The small ring makes many
    reconnections catch up from the store."""
    draw, cuts = random.Random(11), Cuts()
    settings = EngineSettings(ring_bytes=4096)
    async with Engine(f"sqlite:///{tmp_path}/turns.sqlite", settings=settings) as engine:
        application = build_application(engine.router(), version=VERSION)
        async with (
            RestartingServer(application, cuts.protocol()) as server,
            AsyncClient(server.url, retry=RETRY) as client,
        ):
            chat_id = (await client.chats.create()).id
            restarting = asyncio.create_task(restart_again_and_again(server, cuts, draw))
            turn = await client.send(
                "Go on", chat_id=chat_id, model="sim/story:events=1000000,pace=0.001,seed=3"
            )
            sent = len(cuts.torn)
            watching = Watching(turn)
            await asyncio.wait_for(restarting, SECONDS)
            assert not turn.ended
            await turn.interrupt()
            await asyncio.wait_for(watching.task, SECONDS)
            stored, listed = await client.read(turn.turn_id), await client.chats.turns(chat_id)
    assert server.starts == RESTARTS + 1
    assert len(cuts.torn) == RESTARTS
    assert sent >= 5, "answers to the POST were cut"
    assert len(listed.turns) == 2, "and yet it made one turn"
    in_a_frame = [piece for piece in cuts.torn[sent:] if piece and not piece.endswith(b"\n\n")]
    assert len(in_a_frame) > RESTARTS // 2
    assert turn.losses > RESTARTS // 2, "in addition to those that aiohttp mends by a second GET of its own"
    assert (turn.status, turn.lost) == (stored.status, ()) == ("cancelled", ())
    assert turn.blocks == [row.block for row in stored.blocks]
    assert len(turn.text) > 4_000


async def restart_again_and_again(server: RestartingServer, cuts: Cuts, draw: random.Random) -> None:
    """Stop the server and start it again, `RESTARTS` times."""
    for restart in range(RESTARTS):
        cuts.left = draw.randint(0, 300 if restart < 8 else 6000)
        await cuts.died.wait()
        await server.stop()
        cuts.left = None
        cuts.died.clear()
        await server.start()


class TakenOver:
    """A turn that another process continues again and again, each time without the end of the shown text."""

    def __init__(self, draw: random.Random) -> None:
        self.text = ""
        self.truncated = 0
        self.connections = 0
        self._draw = draw
        self._generation = 7
        self._seq = 1

    async def reply(self, asked: Asked) -> Reply:
        """Events of the next process: the surviving text, three more words, and no end."""
        self.connections += 1
        body = self._take_over(asked.headers.get("last-event-id"))
        events: list[TurnEvent] = [BlockCatchup(0, "text", complete=False, accumulated_text=self.text)]
        events += [BlockDelta(0, "text", "text", f"<{self._draw.random()}>") for _ in range(3)]
        last = self.connections == RESTARTS + 1
        survived = len(events) if last else self._draw.randint(1, len(events))
        kept = events[1:survived]
        self.text += "".join(str(event.value) for event in kept if isinstance(event, BlockDelta))
        body += told(events, first=self._seq, generation=self._generation)
        self._seq += survived - 1
        if last:
            body += told(
                [TurnComplete("end_turn", 1, 1, 1)], first=self._seq + 1, generation=self._generation
            )
        return Reply(body=body, end="close" if last else "cut")

    def _take_over(self, asked_with: str | None) -> bytes:
        if asked_with is None:
            self._seq = 2
            return told([START], generation=7)
        cursor = parse_cursor(asked_with)
        assert cursor is not None
        assert cursor.generation == self._generation
        fence = self._seq
        self._generation += 1
        self._seq = (fence // SEQ_STRIDE + 1) * SEQ_STRIDE
        if cursor.seq <= fence:
            return b""
        self.truncated += 1
        notice = Notice("truncated", "text that you had seen is gone", 0)
        return told([notice], first=fence, generation=self._generation)


async def test_a_hundred_takeovers_that_lose_text_in_one_turn() -> None:
    turn_there = TakenOver(random.Random(5))
    async with (
        ScriptedServer([turn_there.reply] * (RESTARTS + 1)) as server,
        AsyncClient(server.url, retry=RETRY) as client,
    ):
        turn = await asyncio.wait_for(client.watch(TURN_ID).wait(), SECONDS)
    assert turn.blocks == [Block(0, "text", turn_there.text, partial=True)]
    assert turn_there.connections == RESTARTS + 1
    assert len(turn.lost) == turn_there.truncated
    assert 20 < turn_there.truncated < RESTARTS


@pytest.mark.requirement("D5", "J4", "P5")
async def test_five_processes_killed_or_stopped_under_one_conversation(tmp_path: Path) -> None:
    """Each turn ends as the next process ends it: `orphaned` after kill -9, `server_shutdown` after SIGTERM.

    If the journal holds nothing of the shown text, the client gets a notice. The client's blocks always equal
    the stored blocks.
    """
    deaths = [
        (signal.SIGKILL, 30.0),
        (signal.SIGTERM, 0.1),
        (signal.SIGKILL, 0.01),
        (signal.SIGKILL, 30.0),
        (signal.SIGTERM, 30.0),
    ]
    database, port = tmp_path / "turns.sqlite", 0
    watching: Watching | None = None
    seen = 0
    client: AsyncClient | None = None
    conversation: AsyncClientConversation | None = None
    try:
        for place, (death, journal_interval) in enumerate([*deaths, (None, 0.1)]):
            async with process(Life(database, port, journal_interval)) as server:
                port = port or urlsplit(server.url).port or 0
                client = client or AsyncClient(server.url, retry=RETRY)
                conversation = conversation or AsyncClientConversation(client)
                if watching is not None:
                    await asyncio.wait_for(watching.task, SECONDS)
                    await check_end(watching.turn, client, deaths[place - 1], seen)
                if death is None:
                    turn = await (await conversation.send("And?", model="sim/echo:pace=0")).wait()
                    assert (turn.status, turn.text) == ("complete", "And?")
                    assert len((await client.chats.turns(conversation.chat_id or "")).turns) == 12
                    break
                turn = await conversation.send("Go on", model="sim/story:events=100000,pace=0.002,seed=4")
                watching = Watching(turn)
                await watching.until(lambda turn: len(turn.text) > 400)
                os.kill(server.pid, death)
                await server.ended()
                if death == signal.SIGKILL:
                    await watching.until(lambda turn: turn.losses > 0)
                    assert not turn.ended
                seen = len(turn.text)
    finally:
        if watching is not None:
            watching.task.cancel()
            watching.turn.close()
        if client is not None:
            await client.close()


async def check_end(
    turn: AsyncTurn, client: AsyncClient, death: tuple[signal.Signals, float], seen: int
) -> None:
    stored = await client.read(turn.turn_id)
    assert turn.blocks == [row.block for row in stored.blocks]
    assert turn.status == stored.status == "error"
    assert turn.error is not None
    assert turn.error == stored.error
    number, journal_interval = death
    assert turn.error.code == ("orphaned" if number == signal.SIGKILL else "server_shutdown")
    assert bool(turn.lost) == (len(stored.text) < seen)
    if number == signal.SIGKILL and journal_interval > 1:
        assert turn.lost
        assert not turn.text
    if number == signal.SIGTERM:
        assert not turn.lost
