"""For every turn, and every time at which clients of AG-UI join it, each client ends with the stored
blocks."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, example, given, settings

from tests.dialects.run_fold import RunFold
from tests.dialects.test_ag_ui_encoder import EARLIER, FACTS, QUESTION
from tests.turnlog.dialect_watching import play
from tests.turnlog.scripted import TURN_ID, ScriptedTurn
from tests.turnlog.test_subscription_properties import (
    ACTIONS,
    BATCHES,
    ENDS,
    LIMITS,
    SECONDS,
    TICKS,
    Action,
    End,
    Limits,
    patched,
    scripted,
)
from turnstream.core.stream_events import TextDelta, ToolInputDelta
from turnstream.core.turn_events import BlockReset, SourceEvent
from turnstream.dialects.ag_ui.encoder import AgUiEncoder


@pytest.mark.requirement("P2", "P5", "N4")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(  # after the retraction, the client has messages on both sides of a new one
    batches=[
        [TextDelta(1, ""), TextDelta(0, ""), TextDelta(1, "")],
        [TextDelta(0, ""), ToolInputDelta(0, "a"), TextDelta(0, ""), BlockReset(3)],
        [TextDelta(0, ""), TextDelta(1, ""), TextDelta(0, "a")],
    ],
    limits=Limits(65536, 1, 1, 1, 0, 200, 1, 1),
    ticks=[],
    archive_ticks=[],
    actions=[],
    end=End("complete", 0),
)
@given(batches=BATCHES, limits=LIMITS, ticks=TICKS, archive_ticks=TICKS, actions=ACTIONS, end=ENDS)
def test_every_run_is_valid_and_shows_the_stored_blocks(
    batches: list[list[SourceEvent]],
    limits: Limits,
    ticks: list[int],
    archive_ticks: list[int],
    actions: list[Action],
    end: End,
) -> None:
    async def example() -> None:
        async with asyncio.timeout(SECONDS):
            turn = scripted(batches, limits, (ticks, ticks), end)
            watchers = await play(
                turn,
                actions,
                archive_ticks,
                lambda: (AgUiEncoder(TURN_ID, FACTS, EARLIER, joins=True), RunFold([QUESTION])),
                exact=False,
            )
            starter = await play_from_the_start(batches, limits, ticks, archive_ticks, actions, end)
            for played, watcher in [*((turn, one) for one in watchers), *starter]:
                check(played, cast("RunFold", watcher.fold))

    with ExitStack() as stack:
        patched(stack, limits._replace(part=32 * 1024))  # a call's id and name are never apart
        asyncio.run(example())


async def play_from_the_start(
    batches: list[list[SourceEvent]],
    limits: Limits,
    ticks: list[int],
    archive_ticks: list[int],
    actions: list[Action],
    end: End,
) -> list[tuple[ScriptedTurn, Any]]:
    """Watchers that get each event singly, like clients that have just started the turn."""
    turn = scripted(batches, limits, (ticks, ticks), end)
    dialect = lambda: (AgUiEncoder(TURN_ID, FACTS, EARLIER), RunFold([QUESTION]))  # noqa: E731
    return [(turn, watcher) for watcher in await play(turn, actions, archive_ticks, dialect)]


def check(turn: ScriptedTurn, fold: RunFold) -> None:
    assert fold.done
    assert fold.messages[0] == QUESTION
    stored = sorted((row.block for row in turn.store.blocks), key=lambda block: block.sequence)
    for block_type, role in (("text", "assistant"), ("thinking", "reasoning")):
        texts = [block.text_content or "" for block in stored if block.block_type == block_type]
        shown = [one["content"] for one in fold.messages if one["role"] == role and "content" in one]
        assert shown == texts or (role == "reasoning" and not texts and shown == [""])
    endings = {"complete": "success", "error": "error", "cancelled": "cancelled"}
    assert fold.outcome == endings[turn.store.ends[0].outcome.status]
