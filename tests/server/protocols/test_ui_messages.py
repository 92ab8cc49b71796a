"""A page of the AI SDK that loads gets the same messages that its client had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.dialects.ui_fold import UiMessageFold
from tests.server.live import Client
from tests.server.protocols.test_ai_sdk_approvals import answered, responded
from tests.server.protocols.test_ai_sdk_approvals import asked as ask_for_approval
from tests.server.protocols.test_ai_sdk_approvals import chatting as approving
from tests.server.test_ai_sdk import CHAT, WEATHER, ask, body, chatting, message, user
from turnstream.core.stream_events import ContentDelta, TextDelta
from turnstream.core.turn_events import Data, Source
from turnstream.engine import Engine


async def loaded(client: Client, chat_id: str, path: str = CHAT) -> list[dict[str, Any]]:
    answer = await client.call("GET", f"{path}/{chat_id}/messages")
    assert answer.status == 200, answer
    return answer.json


def parts_of(fold: UiMessageFold) -> list[tuple[Any, ...]]:
    """Return the parts of a streamed message, in the form of `loaded_parts`."""
    found: list[tuple[Any, ...]] = []
    for part in fold.parts:
        if part["type"] == "tool":
            state = part["state"].removeprefix("tool-")
            found.append((f"tool-{part['name']}", state, part.get("input"), part.get("output")))
        else:
            found.append(plain(part))
    return found


def plain(part: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(part.get(name) for name in ("type", "text", "data", "url", "title", "sourceId", "mediaType"))


def loaded_parts(message: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (part["type"], part["state"], part.get("input"), part.get("output"))
        if part["type"].startswith("tool-")
        else plain(part)
        for part in message["parts"]
    ]


@pytest.mark.requirement("N3")
async def test_a_conversation_with_tools_on_both_sides_is_loaded_as_it_was_streamed(tmp_path: Path) -> None:
    async with chatting(tmp_path) as client:
        assert await loaded(client, "c") == []
        options = {"model": "sim/agent:pace=0", "tools": ["clock", WEATHER]}
        first = await ask(client, body("c", user("one"), **options))
        done = message(first, weather="clear")
        rest = await ask(client, body("c", user("one"), done, **options))
        last = await ask(
            client, body("c", *await loaded(client, "c"), user("two"), model="sim/thinking:pace=0")
        )
        question, answer, second, thought = await loaded(client, "c")
        assert question["parts"] == [{"type": "text", "text": "one", "state": "done"}]
        assert [one["role"] for one in (question, answer, second, thought)] == ["user", "assistant"] * 2
        assert answer["id"] == first.message_id
        assert len(loaded_parts(answer)) == len(first.parts) + len(rest.parts)
        assert loaded_parts(answer)[-len(rest.parts) :] == parts_of(rest)
        weather = next(part for part in answer["parts"] if part["type"] == "tool-weather")
        assert (weather["state"], weather["output"]) == ("output-available", "clear")
        assert (thought["id"], loaded_parts(thought)) == (last.message_id, parts_of(last))
        assert answer["metadata"] == {**first.metadata, **rest.metadata}
        assert thought["metadata"] == last.metadata
        assert last.metadata["chatId"] == first.metadata["chatId"], (
            "the loaded messages are those of the chat"
        )


@pytest.mark.requirement("N3")
@pytest.mark.parametrize("approved", [True, False])
async def test_an_answered_approval_is_a_fact_of_its_call(tmp_path: Path, approved: bool) -> None:
    async with approving(tmp_path) as client:
        fold = await ask_for_approval(client, 7)
        assert len(await loaded(client, "c")) == 1, "a waiting turn comes with the stream"
        rest = await answered(client, 7, fold, responded(fold, approved=approved, reason="not this"))
        answer = (await loaded(client, "c"))[-1]
        call = next(part for part in answer["parts"] if part["type"] == "tool-erase")
        assert call["state"] == ("output-available" if approved else "output-denied")
        assert call["approval"]["approved"] is approved
        assert [part["text"] for part in answer["parts"] if part["type"] == "text"] == rest.texts("text")


async def test_data_sources_files_and_failures_are_loaded(tmp_path: Path) -> None:
    async def events() -> Any:
        yield [Data("weather", {"c": 3}), Source("s1", "https://s.example", "S")]
        yield TextDelta(0, "cited")
        yield ContentDelta(0, {"citations": [{"url": "https://a.example", "title": "A"}]})
        raise RuntimeError("broken")

    async with Engine(f"sqlite:///{tmp_path}/chats.sqlite") as engine:
        turn = await engine.start(events())
        await turn.wait()
        chat_id = turn.chat_id
    async with chatting(tmp_path) as client:
        (answer,) = await loaded(client, chat_id)
        kinds = [part["type"] for part in answer["parts"]]
        assert kinds == ["step-start", "text", "source-url", "data-weather", "source-url"]
        assert answer["metadata"]["errorCode"] == "source_error"
