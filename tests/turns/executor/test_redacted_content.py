"""Content that a provider retracts: replaced in the log, the store, for watchers and in whole messages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.turnlog.watching import Client
from tests.turns.world import Feed, World
from turnstream.core.answers import fold_answer
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    MessageStop,
    RedactContent,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
)
from turnstream.llm.assembly import MessageAssembler

ANSWER: tuple[StreamEvent, ...] = (
    MessageStart(),
    ContentBlockStart(0, "thinking"),
    ThinkingDelta(0, "a secret thought"),
    ContentBlockStop(0),
    ContentBlockStart(1, "text"),
    TextDelta(1, "a secret"),
    TextDelta(1, " is"),
    ContentBlockStop(1),
    MessageStop("guardrail_intervened"),
)
REDACTION = RedactContent("assistant", "[blocked]")


def with_redaction(place: int) -> list[StreamEvent]:
    """Return the answer with the provider's retraction at a place before its end."""
    return [*ANSWER[:place], REDACTION, *ANSWER[place:]]


def texts(blocks: Sequence[Block]) -> list[str | None]:
    return [block.text_content for block in blocks]


@pytest.mark.requirement("K1")
@pytest.mark.parametrize("place", range(1, len(ANSWER)))
async def test_an_answer_is_replaced_at_any_place(tmp_path: Path, place: int) -> None:
    async with World(tmp_path / "a.sqlite") as world:
        feed = Feed()
        executor = await world.start_foreign(feed.events())
        live = Client()
        subscription = await world.watch(executor.turn.id)
        for event in with_redaction(place):
            feed.put(event)
        feed.end()
        state = await world.ended(executor.turn.id)
        while (data := await subscription.next()) is not None:
            live.receive(data)
        late = await world.watched(executor.turn.id)
        assert texts([row.block for row in state.blocks]) == ["[blocked]"]
        assert [row.block.text_content for row in await world.stored(executor.turn.id)] == ["[blocked]"]
        assert texts(live.now.blocks) == texts(late.now.blocks) == ["[blocked]"]
        assert state.turn.stop_reason == "guardrail_intervened"


@pytest.mark.parametrize("place", range(1, len(ANSWER)))
@pytest.mark.parametrize("size", [1, 3, 100])
def test_an_assembled_message_is_replaced_at_any_place(place: int, size: int) -> None:
    events = with_redaction(place)
    assembler = MessageAssembler()
    for start in range(0, len(events), size):
        assembler.feed(*events[start : start + size])
    assembler.close()
    message = assembler.current_message
    assert (message.text, message.thinking, message.complete) == ("[blocked]", "", True)
    assert texts(fold_answer(events).blocks) == ["[blocked]"]


@given(replacement=st.sampled_from(["", "x"]), place=st.integers(1, len(ANSWER) - 1))
def test_only_the_replacement_is_left(replacement: str, place: int) -> None:
    events = [*ANSWER[:place], RedactContent("assistant", replacement), *ANSWER[place:]]
    assert texts(fold_answer(events).blocks) == ([replacement] if replacement else [])


@pytest.mark.requirement("K1")
async def test_the_users_turn_is_replaced_and_watchers_learn_of_it(tmp_path: Path) -> None:
    async with World(tmp_path / "a.sqlite") as world:
        feed = Feed()
        executor = await world.start_foreign(feed.events(), blocks=(Block(0, "text", "my secret"),))
        asked = executor.turn.prev_turn_id
        assert asked is not None
        feed.put(*ANSWER[:4], RedactContent("user", "[hidden]"), *ANSWER[4:])
        feed.end()
        await world.ended(executor.turn.id)
        assert [row.block.text_content for row in await world.stored(asked)] == ["[hidden]"]
        late = await world.watched(executor.turn.id)
        shown = [frame.data for frame in late.frames if frame.name == "user_redacted"]
        assert [(data["replacement"], data["user_turn_id"]) for data in shown] == [("[hidden]", asked)]


async def test_a_retraction_of_the_answer_shows_one_reset(tmp_path: Path) -> None:
    async with World(tmp_path / "a.sqlite") as world:
        feed = Feed()
        executor = await world.start_foreign(feed.events())
        subscription = await world.watch(executor.turn.id)
        client = Client()
        await feed.say(*ANSWER[:7])
        client.receive(await subscription.next() or b"")
        feed.put(*with_redaction(7)[7:])
        feed.end()
        while (data := await subscription.next()) is not None:
            client.receive(data)
        resets = [frame.data["block_index"] for frame in client.frames if frame.name == "block_reset"]
        assert resets == [0]
