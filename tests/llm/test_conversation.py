"""A conversation keeps questions with their answers, and nothing of an exchange without an end."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

import pytest

import turnstream as ts
from turnstream.errors import Conflict

ECHO = ts.LLM("sim/echo:pace=0")
BROKEN = ts.LLM("sim/echo:pace=0,fault=cut,after=5", retry=ts.RetrySettings(attempts=1))
SLOW = ts.LLM("sim/story:events=2000,pace=0.01")


def said(chat: ts.Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in chat.messages]


async def test_the_model_gets_what_was_said_before() -> None:
    chat = ECHO.conversation(system="Be brief.")
    first = await chat.collect("one")
    async with chat.stream("two") as stream:
        assert [text async for text in stream.text] == ["two"]
        assert said(chat)[2:] == [("user", "two"), ("assistant", "two")]
        second = await stream.final_message()
    assert said(chat) == [("user", "one"), ("assistant", "one"), ("user", "two"), ("assistant", "two")]
    alone = await ECHO.collect("two", system="Be brief.")
    assert first.usage.input_tokens is not None
    assert second.usage.input_tokens == (alone.usage.input_tokens or 0) + 2, "one, and its answer"


def test_without_asyncio() -> None:
    with ts.LLM("sim/echo:pace=0") as llm:
        chat = llm.conversation()
        assert chat.collect_sync("one").text == "one"
        with chat.stream_sync("two") as stream:
            assert "".join(stream.text) == "two"
    assert [text for _, text in said(chat)] == ["one", "one", "two", "two"]
    assert repr(chat) == "<Conversation, 4 messages>"
    assert (chat._repr_markdown_() or "").startswith("**user:** one\n\n**assistant:** one")
    assert ECHO.conversation()._repr_markdown_() is None


@pytest.mark.parametrize("way", ["text", "events", "blocks", "batches", "final_message", "callbacks"])
async def test_every_way_to_read_counts(way: str) -> None:
    chat = ECHO.conversation()
    seen = asyncio.Event()
    callbacks = ts.Callbacks(on_complete=lambda *_: seen.set(), on_event=lambda _: None)
    async with asyncio.timeout(10), chat.stream("one", callbacks=callbacks) as stream:
        if way == "final_message":
            await stream.final_message()
        elif way == "callbacks":
            await seen.wait()
        else:
            reader = getattr(stream, way)
            async for _ in reader() if way in ("events", "batches") else reader:
                pass
        assert len(chat.messages) == 2
        await stream.final_message()
    assert len(chat.messages) == 2, "once"


async def test_an_answer_that_breaks_off_is_not_added() -> None:
    chat = BROKEN.conversation(
        messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    )
    for _ in range(2):
        with pytest.raises(ts.StreamIncomplete) as raised:
            await chat.collect("one two three four")
        assert said(chat) == [("user", "a"), ("assistant", "b")]
    partial = raised.value.partial
    assert partial is not None
    chat.add("one two three four", partial)
    assert said(chat)[2:] == [("user", "one two three four"), ("assistant", partial.text)]
    assert partial.text


async def test_an_answer_that_is_left_or_cancelled_is_not_added() -> None:
    chat = SLOW.conversation()
    async with chat.stream("go") as stream:
        async for _ in stream.text:
            break
    assert chat.messages == []
    begun = asyncio.Event()
    callbacks = ts.Callbacks(on_start=lambda _: begun.set())
    asking = asyncio.create_task(chat.collect("go", callbacks=callbacks))
    async with asyncio.timeout(10):
        await begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert chat.messages == []


async def test_a_complete_answer_that_is_left_before_its_end_is_not_added() -> None:
    chat, complete = ECHO.conversation(), asyncio.Event()
    callbacks = ts.Callbacks(on_complete=lambda *_: complete.set())
    async with asyncio.timeout(10), chat.stream("one two", callbacks=callbacks) as stream:
        await anext(stream.events())
        await complete.wait()
        assert stream.ended
    assert chat.messages == []


async def test_one_answer_at_a_time() -> None:
    chat = SLOW.conversation()
    async with chat.stream("go"):
        with pytest.raises(Conflict, match="still running"):
            chat.stream("again")
    chat.stream("again")


async def test_tools_and_their_results_are_kept() -> None:
    def weather(city: str) -> str:
        """Tell the weather."""
        return f"sunny in {city}"

    chat = ts.LLM("sim/tools:pace=0").conversation(tools=[weather])
    message = await chat.collect("How is the weather?")
    assert len(message.steps) == 2
    assert chat.messages[1].blocks == message.blocks
    assert "tool_result" in {block.block_type for block in chat.messages[1].blocks}
    again = ts.LLM("sim/tools:pace=0").conversation(tools=[weather], run_tools=False)
    asked = await again.collect("How is the weather?")
    again.messages += [call.result("rain") for call in asked.tool_calls]
    answer = await again.collect()
    assert "rain" in answer.text
    assert [role for role, _ in said(again)] == ["user", "assistant", "user", "user", "assistant"]


@dataclass
class City:
    name: str


@pytest.mark.parametrize("mode", ["schema", "tool"])
async def test_a_typed_answer_can_be_followed(mode: ts.OutputMode) -> None:
    chat = ECHO.conversation(output_mode=mode)
    first = await chat.collect('{"name": "Vienna"}', output=City)
    assert first.output == City("Vienna")
    assert (await chat.collect("and then?")).text == "and then?"
    with pytest.raises(ts.InvalidOutput) as raised:
        await chat.collect("nonsense", output=City)
    assert len(chat.messages) == 4
    assert raised.value.partial is not None
    chat.add("nonsense", raised.value.partial)
    assert len(chat.messages) == 6


async def test_the_messages_are_the_callers() -> None:
    chat = ECHO.conversation()
    chat.add("one", "eins")
    chat.add("two", [{"type": "text", "text": "zwei"}])
    assert said(chat) == [("user", "one"), ("assistant", "eins"), ("user", "two"), ("assistant", "zwei")]
    del chat.messages[2:]
    chat.options["system"] = "Be brief."
    await chat.collect("three", system=None)
    assert len(chat.messages) == 4
    with pytest.raises(ts.InvalidRequest, match=r"set chat\.messages"):
        chat.stream("x", messages=[])
    with pytest.raises(ts.InvalidRequest, match="the prompt is missing"):
        ECHO.conversation().stream()
    with pytest.raises(TypeError, match="temperature"):
        ECHO.conversation(temperature=1)  # type: ignore[call-arg]


async def test_saved_and_restored() -> None:
    image = {"type": "image", "media_type": "image/png", "data": "iVBORw0KGgo="}
    chat = ECHO.conversation(system="Be brief.", params={"max_tokens": 50})
    await chat.collect(["one", image])
    chat.add("half \ud800 a pair", "x")
    saved = chat.to_json()
    assert [row["role"] for row in json.loads(saved)["messages"]] == [
        "user",
        "assistant",
        "user",
        "assistant",
    ]
    again = ECHO.conversation(saved=saved)
    assert again.messages == chat.messages
    assert (again.options["system"], again.options["params"]) == ("Be brief.", {"max_tokens": 50})
    other = ECHO.conversation(saved=saved.encode(), system="Be long.")
    assert (other.options["system"], other.to_json() != saved) == ("Be long.", True)
    assert again.to_json() == saved
    assert (await again.collect("three")).text == "three"


async def test_a_typed_answer_by_a_tool_can_be_followed() -> None:
    chat = ts.LLM("sim/tools:pace=0").conversation()
    first = await chat.collect("go", output=City)
    assert first.outputs, "the answer is the arguments of a call"
    assert [block.block_type for block in chat.messages[1].blocks][-1] == "tool_result"
    assert (await chat.collect("and?")).complete


@pytest.mark.parametrize("saved", ["", "[]", '{"messages": [{"role": "system", "blocks": []}]}', b"\xff"])
def test_other_json_is_refused(saved: str | bytes) -> None:
    with pytest.raises(ts.InvalidRequest, match="not the JSON of a conversation"):
        ECHO.conversation(saved=saved)
