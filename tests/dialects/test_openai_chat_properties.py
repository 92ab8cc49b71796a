"""For every turn, and every time at which clients of Chat Completions join it, each client ends with the
stored text."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings

from tests.dialects.chat_fold import ChatFold
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
from turnstream.core.turn_events import SourceEvent
from turnstream.dialects.openai_chat.encoder import encoder_of

CLIENT_TOOLS = ("n",)


@pytest.mark.requirement("P2", "P5", "N5")
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches=BATCHES, limits=LIMITS, ticks=TICKS, archive_ticks=TICKS, actions=ACTIONS, end=ENDS)
def test_every_stream_is_valid_and_shows_the_stored_text_or_an_error(
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
                turn, actions, archive_ticks, lambda: (encoder_of(TURN_ID, CLIENT_TOOLS), ChatFold())
            )
            for watcher in watchers:
                check(turn, cast("ChatFold", watcher.fold))

    with ExitStack() as stack:
        patched(stack, limits._replace(part=32 * 1024))  # a call's id and name are never apart
        asyncio.run(example())


def check(turn: ScriptedTurn, fold: ChatFold) -> None:
    """A stream without an error has everything that is stored. Only a retracted answer shows other text."""
    status = turn.store.ends[0].outcome.status
    assert fold.done == (fold.error is None)
    if fold.error is not None and fold.error["code"] == "retracted":
        return
    assert fold.done == (status == "complete")
    stored = sorted((row.block for row in turn.store.blocks), key=lambda block: block.sequence)
    for block_type, shown in (("text", fold.text), ("thinking", fold.thoughts)):
        texts = [block.text_content or "" for block in stored if block.block_type == block_type]
        assert shown == "".join(texts)
    calls = [block.content or {} for block in stored if block.block_type == "tool_use"]
    expected = [call for call in calls if call.get("tool_name") in CLIENT_TOOLS]
    assert [(call["id"], call["arguments"]) for call in fold.calls] == [
        (call["tool_use_id"], call.get("input_json") or "{}") for call in expected
    ]
