"""Large blocks arrive in pieces, closed or open. A watcher that is cut at any byte and resumes gets exactly
the stored blocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.server.live import Client, Watcher, serving
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    SignatureDelta,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.turn_events import Data, Source, SourceEvent
from turnstream.engine import Engine
from turnstream.turnlog import catch_up, open_pieces, watch_decision

TEXT = 'Grüße 👋 and "more"\n\x00' * 12
BATCHES: Sequence[Sequence[SourceEvent]] = [
    [ContentBlockStart(0, "thinking"), ThinkingDelta(0, TEXT), SignatureDelta(0, "sig" * 60)],
    [Data("kept", "x" * 150), Source("in the middle of a block")],
    [ContentBlockStop(0), ContentBlockStart(1, "tool_use", {"tool_use_id": "t", "tool_name": "n"})],
    [ToolInputDelta(1, '{"city": ["Paris", "' + "é" * 200 + '"]}'), ContentBlockStop(1)],
    [ContentBlockStart(2, "text"), TextDelta(2, "short"), ContentBlockStop(2)],
    [
        ContentBlockStart(3, "text"),
        TextDelta(3, TEXT),
        *[ContentDelta(3, {"citations": [{"at": n}]}) for n in range(9)],
    ],
    [
        ContentBlockStop(3),
        ContentBlockStart(4, "image", {"media_type": "image/png", "data": "A" * 700}),
        ContentBlockStop(4),
    ],
    [
        ContentBlockStart(5, "tool_use", {"tool_use_id": "u", "tool_name": "n"}),
        ToolInputDelta(5, "{no json" * 20),
    ],
    [ContentBlockStop(5), ContentBlockStart(6, "text"), TextDelta(6, TEXT)],
]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the size of a large block to a hundred bytes."""
    for name, value in {
        "PAGE_BYTES": 300,
        "PIECE_LENGTH": 30,
        "LONG_TEXT": 60,
        "TEXT_PIECE": 90,
        "LARGE_FRAME": 500,
    }.items():
        monkeypatch.setattr(catch_up, name, value)
    monkeypatch.setattr("turnstream.turns.archive.TEXT_PIECE", 90)
    monkeypatch.setattr("turnstream.turnlog.view.REST_PIECE", 30)
    monkeypatch.setattr(open_pieces, "LARGE_FRAME", 500)
    monkeypatch.setattr(watch_decision, "LARGE_FRAME", 500)
    monkeypatch.setattr(open_pieces, "SHORT_SIGNATURE", 60)
    monkeypatch.setattr("turnstream.core.content_parts.PART_BYTES", 60)


async def said(go_on: asyncio.Event) -> AsyncIterator[Sequence[SourceEvent]]:
    for batch in BATCHES:
        yield batch
    await go_on.wait()
    yield [ContentBlockStop(6)]


@pytest.mark.fault(8)
@pytest.mark.requirement("C2", "C3")
async def test_closed_blocks_in_pieces_resume_at_any_byte(tmp_path: Path) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port:
        go_on = asyncio.Event()
        go_on.set()
        turn = await engine.start(said(go_on))
        await turn.wait()
        engine._registry.forget(turn.id)  # watchers get what the rows tell
        client = Client(port)
        stored = await client.stored(turn.id)
        whole = Watcher(client, turn.id)
        await whole.watch_to_the_end()
        assert whole.blocks == stored
        assert len(whole.names) > 60
        assert whole.names.count("data") == whole.names.count("source") == 1
        size = whole.bytes_seen

        async def cut_at(offsets: Sequence[int]) -> None:
            for offset in offsets:
                watcher = Watcher(client, turn.id)
                await watcher.watch(limit=offset)
                while not watcher.ended:
                    await watcher.watch()
                assert watcher.blocks == stored, offset

        offsets = range(1, size, 29)
        await asyncio.gather(*(cut_at(offsets[place::8]) for place in range(8)))


@pytest.mark.fault(8)
@pytest.mark.requirement("C2", "C3")
async def test_closed_and_open_blocks_in_pieces_resume_while_the_turn_goes_on(tmp_path: Path) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port:
        go_on = asyncio.Event()
        turn = await engine.start(said(go_on))
        client = Client(port)
        executor = engine._registry.get(turn.id)
        assert executor is not None
        async with asyncio.timeout(20):
            while executor.log.open_block is None or executor.log.open_block.sequence < 6:
                waiter = asyncio.get_running_loop().create_future()
                executor.log.add_waiter(waiter)
                await waiter
        watchers = [Watcher(client, turn.id) for _ in range(60)]
        for number, watcher in enumerate(watchers):
            await watcher.watch(events=number + 1)
        early = [asyncio.create_task(watcher.watch_to_the_end()) for watcher in watchers[::2]]
        go_on.set()
        await turn.wait()
        await asyncio.gather(*early, *(watcher.watch_to_the_end() for watcher in watchers[1::2]))
        stored = await client.stored(turn.id)
        assert all(watcher.blocks == stored for watcher in watchers)


@pytest.mark.fault(8)
async def test_a_page_a_piece_and_a_batch_are_small_whatever_the_turn_holds(tmp_path: Path) -> None:
    """The image's data is one piece, which watchers share."""
    async with Engine(f"sqlite:///{tmp_path}/turns.sqlite") as engine:
        go_on = asyncio.Event()
        go_on.set()
        turn = await engine.start(said(go_on))
        await turn.wait()
        engine._registry.forget(turn.id)
        first, second = [await engine.subscribe(turn.id) for _ in range(2)]
        sizes: list[int] = []
        shared = 0
        while (data := await first.next()) is not None:
            other = await second.next()
            assert other == data
            sizes.append(len(data))
            if len(data) > 500:
                shared += 1
                assert other is data
        assert shared == 1
        assert sorted(sizes)[-2] < 500
