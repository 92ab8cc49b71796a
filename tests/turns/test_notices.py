"""Notices of a model's stream are kept for late watchers (C1)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from turnstream.core.message_facts import MAX_NOTICES
from turnstream.core.stream_events import StreamEvent, StreamNotice, TextDelta
from turnstream.engine import Engine


async def talkative(notices: int) -> AsyncIterator[StreamEvent]:
    yield TextDelta(0, "before ")
    for number in range(notices):
        yield StreamNotice("malformed_event", f"number {number}")
    yield TextDelta(0, "after")


async def frames(engine: Engine, turn_id: str) -> bytes:
    subscription = await engine.subscribe(turn_id)
    seen = b""
    while (data := await subscription.next()) is not None:
        seen += data
    return seen


@pytest.mark.requirement("C1")
@pytest.mark.requirement("E6")
@pytest.mark.parametrize(("sent", "kept"), [(2, 2), (200, MAX_NOTICES)])
async def test_notices_of_a_stream_last_and_are_bounded(tmp_path: Path, sent: int, kept: int) -> None:
    async with Engine(f"sqlite:///{tmp_path}/turns.sqlite") as engine:
        turn = await engine.start(talkative(sent))
        live = await frames(engine, turn.id)
        state = await turn.wait()
        assert state.blocks[0].block.text_content == "before after"
        assert live.count(b"event: notice\n") == kept
    async with Engine(f"sqlite:///{tmp_path}/turns.sqlite") as engine:
        late = await frames(engine, turn.id)
        assert late.count(b"event: notice\n") == kept
        assert b"number 0" in late
