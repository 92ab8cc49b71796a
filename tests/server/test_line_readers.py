"""Readers that remember an id when its line ends, before the event is whole. A cut loses them nothing, except
at the one byte between the id's line and the blank line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.server.live import Client, read_chunks, read_head, serving
from turnstream.core.native_fold import NativeFold
from turnstream.core.stream_events import ContentBlockStart, ContentBlockStop, StreamEvent, TextDelta
from turnstream.engine import Engine
from turnstream.turnlog.view import REST_PIECE

SECONDS = 30.0

Check: TypeAlias = "Callable[[CutTurn], Awaitable[None]]"
MakeTurn: TypeAlias = Callable[[Path, Check], Awaitable[None]]


class LineReader:
    """Reads lines like `@microsoft/fetch-event-source`, one connection after the other.

    `stores_at_line`: remember an id when its line ends, like that library. Otherwise the reader remembers it
    when the event is dispatched, as the standard says.
    """

    def __init__(self, *, stores_at_line: bool) -> None:
        self.fold = NativeFold()
        self.last_id: str | None = None
        self._stores_at_line = stores_at_line
        self._line = b""
        self._message: dict[str, str] = {}

    def connect(self) -> None:
        """Begin a connection, and drop the unfinished part of the last one."""
        self._line, self._message = b"", {}

    def take(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._take_line(line.decode())

    def _take_line(self, line: str) -> None:
        if not line:
            self._dispatch()
            return
        field, _, value = line.partition(":")
        if field:
            self._message[field] = value.removeprefix(" ")
        if field == "id" and self._stores_at_line:
            self.last_id = self._message["id"]

    def _dispatch(self) -> None:
        message, self._message = self._message, {}
        self.last_id = message.get("id", self.last_id)
        if "data" in message:
            self.fold.feed(message["event"], json.loads(message["data"]))

    @property
    def blocks(self) -> list[dict[str, Any]]:
        return [
            {
                "sequence": block.sequence,
                "block_type": block.block_type,
                "text_content": block.text_content,
                "content": block.content,
                "partial": block.partial,
            }
            for block in self.fold.blocks
        ]


class CutTurn:
    """An ended turn, with `body`: the bytes of one connection."""

    def __init__(self, client: Client, turn_id: str, body: bytes) -> None:
        self.body = body
        self._client = client
        self._turn_id = turn_id
        self._rest: dict[str | None, bytes] = {}

    async def cut_and_resume(self, cuts: Iterable[int], *, stores_at_line: bool) -> set[int]:
        """Cut the body at each of `cuts` and resume. Return the cuts that lost something."""
        stored = await self._client.stored(self._turn_id)
        losing: set[int] = set()
        for cut in cuts:
            reader = LineReader(stores_at_line=stores_at_line)
            reader.take(self.body[:cut])
            reader.connect()
            reader.take(await self._after(reader.last_id))
            if reader.blocks != stored or reader.fold.ending is None:
                losing.add(cut)
        return losing

    async def _after(self, last_id: str | None) -> bytes:
        if last_id not in self._rest:
            headers = {} if last_id is None else {"Last-Event-ID": last_id}
            answer = await self._client.call("GET", f"/turns/{self._turn_id}/stream", headers=headers)
            assert answer.status in (200, 204)
            self._rest[last_id] = answer.body
        return self._rest[last_id]


def behind_ids(body: bytes) -> set[int]:
    """Return the cuts between an id's line and the blank line behind it."""
    return {
        end + 1
        for end in range(len(body))
        if body.startswith(b"\n\n", end) and _line_at(body, end).startswith(b"id: ")
    }


def _line_at(body: bytes, end: int) -> bytes:
    return body[body.rfind(b"\n", 0, end) + 1 : end]


@asynccontextmanager
async def engine_of(tmp_path: Path) -> AsyncGenerator[tuple[Engine, Client], None]:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port:
        yield engine, Client(port)


async def read_stream(
    client: Client, turn_id: str, *, until: Callable[[bytes], bool], then: Callable[[], None]
) -> bytes:
    """Read a turn's stream to its end. Call `then` once the received bytes satisfy `until`."""
    body, called = b"", False
    async with asyncio.timeout(SECONDS):
        reader, writer = await client.open("GET", f"/turns/{turn_id}/stream")
        _, headers = await read_head(reader)
        async for chunk in read_chunks(reader, headers):
            body += chunk
            if not called and until(body):
                called = True
                then()
        writer.close()
    assert called
    return body


async def live_turn(tmp_path: Path, use: Check) -> None:
    """A turn of several kinds of blocks, watched from its beginning."""
    async with engine_of(tmp_path) as (_, client):
        turn_id = await client.start("tell", model="sim/story:events=24,pace=0.002")
        body = await read_stream(client, turn_id, until=bool, then=lambda: None)
        await use(CutTurn(client, turn_id, body))


async def caught_up_turn(tmp_path: Path, use: Check) -> None:
    """A turn with a closed block, and an open block that is caught up in pieces, and then grows."""
    gate = asyncio.Event()

    async def source() -> AsyncIterator[StreamEvent]:
        yield ContentBlockStart(0, "text")
        yield TextDelta(0, "short")
        yield ContentBlockStop(0)
        yield ContentBlockStart(1, "text")
        yield TextDelta(1, "Q" * 3 * REST_PIECE)
        await gate.wait()
        yield TextDelta(1, "and its end")
        yield ContentBlockStop(1)

    async with engine_of(tmp_path) as (engine, client):
        turn = await engine.start(source(), owner="local")
        body = await read_stream(
            client, turn.id, until=lambda body: body.count(b"Q") == 3 * REST_PIECE, then=gate.set
        )
        assert body.count(b"block_catchup") >= 1
        await use(CutTurn(client, turn.id, body))


each_turn = pytest.mark.parametrize("made", [live_turn, caught_up_turn], ids=["live", "caught up"])


@pytest.mark.fault(46)
@pytest.mark.parametrize("stores_at_line", [True, False], ids=["at the line", "at the event"])
@each_turn
async def test_a_cut_loses_nothing_but_behind_an_id(
    tmp_path: Path, made: MakeTurn, stores_at_line: bool
) -> None:
    async def check(turn: CutTurn) -> None:
        exempt = behind_ids(turn.body)
        assert exempt
        ends = {cut + beside for cut in exempt for beside in range(-120, 120)}
        step = 1 if len(turn.body) < 20_000 else 211
        cuts = {*range(0, len(turn.body) + 1, step), *ends} & set(range(len(turn.body) + 1))
        losing = await turn.cut_and_resume(cuts, stores_at_line=stores_at_line)
        assert losing <= (exempt if stores_at_line else set())

    await made(tmp_path, check)


@pytest.mark.fault(46)
@each_turn
async def test_every_frame_ends_with_its_id(tmp_path: Path, made: MakeTurn) -> None:
    """The stream has a catch-up, heartbeats between frames, and the end."""

    async def check(turn: CutTurn) -> None:
        *frames, rest = turn.body.split(b"\n\n")
        assert rest == b""
        for frame in frames:
            if frame.startswith(b":"):
                continue
            names = [line.partition(b": ")[0] for line in frame.split(b"\n")]
            assert names == [b"event", b"data", b"id"]

    await made(tmp_path, check)
