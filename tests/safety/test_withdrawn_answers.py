"""A provider that withdraws its answer, or blocks the question, in the library."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

import turnstream as ts
from turnstream.config import Settings, StreamSettings
from turnstream.core.stream_events import TextDelta
from turnstream.core.turn_events import BlockDelta, TurnEvent
from turnstream.errors import ContentFiltered
from turnstream.simulator import texts
from turnstream.simulator.script import story
from turnstream.wires.shared.endings import WITHDRAWN

SECONDS = 10.0
REDACT = "sim/story:events=400,seed=3,pace=0.002,fault=redact,after=120"
INPUT = "sim/demo:pace=0,fault=redact-input"
BEGUN = next(event.text for event in story(1, 3) if isinstance(event, TextDelta)).strip()


async def take_all(reader: AsyncIterator[str], read: list[str]) -> None:
    async for piece in reader:
        read += [piece]  # a comprehension would lose the pieces before an error


def written(events: Sequence[TurnEvent]) -> str:
    return "".join(event.value for event in events if isinstance(event, BlockDelta) and event.field == "text")


@pytest.mark.requirement("K1")
async def test_a_message_is_the_replacement() -> None:
    message = await ts.LLM(REDACT).collect("tell")
    assert (message.text, message.complete, message.stop_reason) == (WITHDRAWN, True, "content_filtered")
    assert message.user_replacement is None


@pytest.mark.requirement("K1")
async def test_a_reader_of_withdrawn_text_is_told_and_gets_the_replacement() -> None:
    async with asyncio.timeout(SECONDS), ts.LLM(REDACT).stream("tell") as stream:
        reader, read = aiter(stream.text), list[str]()
        with pytest.raises(ContentFiltered, match="withdrew text that was read"):
            await take_all(reader, read)
        assert "".join(read).startswith(BEGUN)
        assert "".join([piece async for piece in reader]) == WITHDRAWN
        assert "".join([piece async for piece in stream.text]) == WITHDRAWN
        assert (await stream.final_message()).text == WITHDRAWN


@pytest.mark.requirement("K1")
async def test_readers_of_events_get_a_reset_and_late_ones_no_withdrawn_text() -> None:
    async with asyncio.timeout(SECONDS), ts.LLM(REDACT).stream("tell") as stream:
        events = [event async for event in stream.events()]
        resets = [place for place, event in enumerate(events) if isinstance(event, ts.BlockReset)]
        assert len(resets) == 1
        assert written(events[: resets[0]]).startswith(BEGUN)
        assert written(events[resets[0] :]) == WITHDRAWN
        late = [event async for event in stream.events()]
        assert BEGUN not in repr(late)
        assert WITHDRAWN in repr(late)


@pytest.mark.requirement("K1")
async def test_an_answer_that_is_held_to_its_end_never_shows_it() -> None:
    llm = ts.LLM(REDACT, settings=Settings(stream=StreamSettings(enabled=False)))
    async with asyncio.timeout(SECONDS), llm.stream("tell") as stream:
        events = [event async for event in stream.events()]
    assert BEGUN not in repr(events)
    assert WITHDRAWN in repr(events)


@pytest.mark.requirement("K1")
async def test_a_conversation_goes_on_with_the_replacements() -> None:
    chat = ts.LLM(INPUT).conversation()
    answer = await chat.collect("my secret")
    assert (answer.text, answer.user_replacement) == (texts.WITHDRAWN, texts.WITHDRAWN)
    assert [message.text for message in chat.messages] == [texts.WITHDRAWN, texts.WITHDRAWN]
    withdrawn = ts.LLM(REDACT).conversation()
    await withdrawn.collect("tell")
    assert [message.text for message in withdrawn.messages] == ["tell", WITHDRAWN]
