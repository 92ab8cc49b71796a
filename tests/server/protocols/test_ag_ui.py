"""Clients of AG-UI over HTTP: start, join, stop, tools on both sides, approvals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.dialects.run_fold import RunFold
from tests.server.live import SECONDS, Client, read_chunks, read_head, serving
from turnstream.engine import Engine
from turnstream.tools.base import tool

RUN = "/ag-ui"
WEATHER = {
    "name": "weather",
    "description": "Tell the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@tool
def clock() -> str:
    """Tell the time."""
    return "12:00"


@asynccontextmanager
async def running(tmp_path: Path, *tools: Any) -> AsyncIterator[Client]:
    engine = Engine(f"sqlite:///{tmp_path / 'chats.sqlite'}", tools=[clock, *tools])
    async with serving(engine.application()) as port:
        yield Client(port)


def user(text: str) -> dict[str, Any]:
    return {"id": f"m-{text}", "role": "user", "content": text}


def asked(run_id: str, *messages: dict[str, Any], model: str = "sim/echo", **fields: Any) -> dict[str, Any]:
    return {
        "threadId": "a thread, 日本",
        "runId": run_id,
        "protocolVersion": "1.0",
        "messages": list(messages),
        "tools": [],
        "context": [],
        "state": {},
        "forwardedProps": {"model": model},
        **fields,
    }


async def ask(client: Client, body: dict[str, Any]) -> RunFold:
    """Return the whole run, read by a strict client."""
    answer = await client.call("POST", RUN, body)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream"), answer
    fold = RunFold(body["messages"])
    fold.receive(answer.body)
    assert fold.done
    return fold


def turn_of(fold: RunFold) -> str:
    """Return the turn of the run's last message."""
    return fold.messages[-1]["id"].rpartition("-")[0]


async def stored_texts(client: Client, turn_id: str) -> list[str]:
    return [row["text_content"] for row in await client.stored(turn_id) if row["block_type"] == "text"]


@pytest.mark.requirement("N4", "P2")
async def test_a_run_is_the_stored_turn_and_the_next_question_continues_its_chat(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        first = await ask(client, asked("r1", user("one"), model="sim/story:events=20,pace=0"))
        assert first.outcome == "success"
        turn_id = turn_of(first)
        assert first.texts() == await stored_texts(client, turn_id)
        second = await ask(client, asked("r2", *first.messages, user("two")))
        turns = [(await client.call("GET", f"/turns/{turn_of(one)}")).json for one in (first, second)]
        assert turns[0]["chat_id"] == turns[1]["chat_id"]
        chat = (await client.call("GET", f"/chats/{turns[0]['chat_id']}/turns")).json["turns"]
        assert [turn["role"] for turn in chat] == ["user", "assistant", "user", "assistant"]
        again = await ask(client, asked("r1", user("one")))
        assert again.kinds == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
        assert again.messages == first.messages


@pytest.mark.requirement("N4", "P2")
async def test_a_second_client_joins_in_mid_run_and_a_stop_ends_both(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        body = asked("r1", user("one"), model="sim/story:events=100000,pace=0.001")
        starter, joiner = RunFold(body["messages"]), RunFold([user("one")])
        stopped: list[asyncio.Task[Any]] = []

        async def watch(fold: RunFold, characters: int, then: Any) -> None:
            reader, writer = await client.open("POST", RUN, body)
            _, headers = await read_head(reader)
            reached = False
            async for chunk in read_chunks(reader, headers):
                fold.receive(chunk)
                if not reached and sum(map(len, fold.texts())) > characters:
                    reached = True
                    then()
            writer.close()

        def stop() -> None:
            stopped.append(asyncio.create_task(client.call("POST", f"{RUN}/runs/r1/stop")))

        joined: list[asyncio.Task[None]] = []

        def join() -> None:
            joined.append(asyncio.create_task(watch(joiner, 600, stop)))

        async with asyncio.timeout(SECONDS):
            await watch(starter, 200, join)
            await joined[0]
            answer = (await stopped[0]).json
        turn_id = turn_of(starter)
        assert answer == {"runId": "r1", "turnId": turn_id, "status": "cancelled"}
        assert joiner.kinds[:3] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "TEXT_MESSAGE_START"]
        assert (starter.outcome, joiner.outcome) == ("cancelled", "cancelled")
        assert starter.messages == joiner.messages
        assert starter.texts() == await stored_texts(client, turn_id)
        assert (await client.call("POST", f"{RUN}/runs/other/stop")).status == 404


@pytest.mark.requirement("N4")
async def test_two_posts_of_a_run_at_once_start_one_turn(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        body = asked("r1", user("one"), model="sim/story:events=50,pace=0")
        folds = await asyncio.gather(*(ask(client, body) for _ in range(4)))
        assert len({turn_of(fold) for fold in folds}) == 1
        assert all(fold.messages == folds[0].messages for fold in folds)
        (chat,) = (await client.call("GET", "/chats")).json["chats"]
        assert len((await client.call("GET", f"/chats/{chat['id']}/turns")).json["turns"]) == 2


@pytest.mark.requirement("N4")
async def test_a_native_turn_is_joined_by_its_own_ids(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        turn_id = await client.start("hi", model="sim/story:events=20,pace=0")
        chat_id = (await client.call("GET", f"/turns/{turn_id}")).json["chat_id"]
        fold = await ask(client, asked(turn_id, user("hi"), threadId=chat_id))
        assert fold.texts() == await stored_texts(client, turn_id)
        assert (await client.call("POST", f"{RUN}/runs/{turn_id}/stop")).json["status"] == "complete"


@pytest.mark.requirement("N4")
async def test_a_tool_of_the_client_and_one_of_the_server(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        fields: dict[str, Any] = {"model": "sim/agent", "tools": [WEATHER]}
        first = await ask(client, asked("r1", user("one"), **fields))
        assert first.ending is not None
        (pending,) = first.ending["outcome"]["pendingToolCallIds"]
        calls = {call["id"]: call for one in first.messages for call in one.get("toolCalls", ())}
        assert calls[pending]["function"]["name"] == "weather"
        results = [one for one in first.messages if one["role"] == "tool"]
        assert [one["content"] for one in results] == ["12:00"]
        sunny = {"id": "t1", "role": "tool", "toolCallId": pending, "content": "sunny"}
        second = await ask(client, asked("r2", *first.messages, sunny, **fields))
        assert second.outcome == "success"
        assert "sunny" in second.texts()[-1]
        turns = [(await client.call("GET", f"/turns/{turn_of(one)}")).json for one in (first, second)]
        chat = (await client.call("GET", f"/chats/{turns[1]['chat_id']}/turns")).json["turns"]
        assert [turn["role"] for turn in chat] == ["user", "assistant", "user", "assistant"]
        assert chat[1]["id"] == turns[0]["id"]


@pytest.mark.requirement("P5", "N4")
@pytest.mark.parametrize("after", [0, 8])
async def test_a_providers_fault_is_a_run_error(tmp_path: Path, after: int) -> None:
    async with running(tmp_path) as client:
        model = f"sim/story:events=20,pace=0,fault=cut,after={after}"
        fold = await ask(client, asked("r1", user("one"), model=model))
        assert fold.outcome == "error"
        assert fold.ending is not None
        assert fold.ending["code"]


@pytest.mark.requirement("N4", "P3")
async def test_a_large_history_is_answered_and_its_images_are_left_out_of_a_snapshot(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        source = {"type": "data", "value": "aGho" * 1_250_000, "mimeType": "image/png"}
        image = {"id": "i", "role": "user", "content": [{"type": "image", "source": source}]}
        first = await ask(client, asked("r1", image, model="sim/story:events=9,pace=0"))
        assert first.messages[0] == image
        second = await ask(client, asked("r2", *first.messages, user("two")))
        again = await ask(client, asked("r2", *first.messages, user("two")))
        assert again.messages[0]["content"] == [{"type": "text", "text": "[image left out]"}]
        assert again.messages[1:] == second.messages[1:]


@pytest.mark.requirement("N4")
async def test_system_messages_and_context_are_the_system_prompt(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        messages = [
            {"id": "s", "role": "system", "content": "Be brief."},
            {"id": "d", "role": "developer", "content": "Be kind."},
            {"id": "x", "role": "activity", "activityType": "plan", "content": {"steps": []}},
            {"id": "u", "role": "user", "content": [{"type": "text", "text": "Hi"}]},
        ]
        context = [{"description": "page", "value": "prices"}]
        fold = await ask(client, asked("r1", *messages, context=context))
        turn = (await client.call("GET", f"/turns/{turn_of(fold)}")).json
        assert turn["system"] == "Be brief.\n\nBe kind.\n\npage: prices"


LONG = {"approved": True, "reason": "x" * 2001}
PART = {"type": "image", "source": {"type": "file", "value": "f"}}


@pytest.mark.requirement("N4")
@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        ({"runId": ""}, "runId"),
        ({"threadId": "x" * 256}, "threadId"),
        ({"threadId": "\x00"}, "id of the chat"),
        ({"messages": []}, "last message"),
        ({"messages": [{"id": "a", "role": "assistant", "content": "x"}]}, "last message"),
        ({"messages": [{"role": "user", "content": "x"}]}, "id"),
        ({"messages": [{"id": "u", "role": "user", "content": [{"type": 7}]}]}, "messages"),
        ({"messages": [{"id": "u", "role": "user"}]}, "messages[0]: a message of user needs a valid content"),
        ({"messages": [{"id": "u", "role": "user", "content": [{"type": "text"}]}]}, "valid text"),
        ({"messages": [{"id": "u", "role": "user", "content": [{"type": "image"}]}]}, "valid source"),
        ({"messages": [{"id": "t", "role": "tool", "content": ""}]}, "valid toolCallId"),
        ({"messages": [{"id": "x", "role": "activity", "content": {}}]}, "valid activityType"),
        ({"messages": [{"id": "u", "role": "user", "content": [PART]}]}, "a file that a provider stores"),
        ({"messages": [{"id": "u", "role": "user", "content": [{**PART, "type": "audio"}]}]}, "audio"),
        ({"tools": [{"name": "no name", "description": ""}]}, "tools"),
        ({"forwardedProps": {"model": 7}}, "forwardedProps"),
        ({"forwardedProps": {"params": {"extra_body": {"model": "dear"}}}}, "model cannot be given"),
        ({"forwardedProps": {"fallbacks": ["sim/echo"] * 9}}, "fallbacks"),
        ({"forwardedProps": {"metadata": {"x": "y" * 20_000}}}, "metadata"),
        ({"resume": [{"interruptId": "x", "status": "done"}]}, "resume[0]"),
        ({"resume": [{"interruptId": "x.y", "status": "resolved"}]}, "payload.approved"),
        ({"resume": [{"interruptId": "x.y", "status": "resolved", "payload": LONG}]}, "the reason of"),
        (
            {"resume": [{"interruptId": "x.y", "status": "resolved", "payload": {"editedArgs": {}}}]},
            "cannot be edited",
        ),
    ],
)
async def test_a_faulty_body_is_refused_with_its_place_and_nothing_is_stored(
    tmp_path: Path, body: Any, place: str
) -> None:
    async with running(tmp_path) as client:
        sent = body if isinstance(body, bytes) else {**asked("r1", user("one")), **body}
        answer = await client.call("POST", RUN, sent)
        assert answer.status == 400
        assert place in answer.json["error"]["message"]
        assert (await client.call("GET", "/chats")).json["chats"] == []


TEXTS = st.text(max_size=8)
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image", "document", "audio"])},
    optional={
        "text": TEXTS | st.integers(),
        "source": st.fixed_dictionaries(
            {
                "type": st.sampled_from(["data", "url", "file"]),
                "value": st.sampled_from(["aGk=", "https://a.example/x.png", ""]),
            },
            optional={"mimeType": st.sampled_from(["image/png", "text/plain", "nonsense"])},
        ),
    },
)
CALLS = st.fixed_dictionaries(
    {
        "id": TEXTS,
        "type": st.just("function"),
        "function": st.fixed_dictionaries(
            {"name": st.sampled_from(["clock", "weather", ""]), "arguments": st.just("{}") | TEXTS}
        ),
    }
)
MESSAGES = st.fixed_dictionaries(
    {
        "id": TEXTS,
        "role": st.sampled_from(
            ["user", "assistant", "tool", "system", "developer", "reasoning", "activity", "x"]
        ),
    },
    optional={
        "content": st.none() | TEXTS | st.lists(PARTS, max_size=3),
        "toolCalls": st.none() | st.lists(CALLS, max_size=2),
        "toolCallId": TEXTS,
        "error": st.none() | TEXTS,
        "metadata": st.none() | st.just({"providerExecuted": True}),
    },
)
BODIES = st.fixed_dictionaries(
    {"threadId": TEXTS, "runId": TEXTS, "messages": st.lists(MESSAGES, max_size=4)},
    optional={
        "protocolVersion": st.none() | st.sampled_from(["1.0", "0.9", "x"]),
        "tools": st.none() | st.just([WEATHER]),
        "context": st.lists(st.fixed_dictionaries({"description": TEXTS, "value": TEXTS}), max_size=1),
        "resume": st.lists(
            st.fixed_dictionaries(
                {"interruptId": TEXTS | st.just("a.b"), "status": st.sampled_from(["resolved", "cancelled"])},
                optional={"payload": st.none() | st.booleans() | st.just({"approved": True})},
            ),
            max_size=2,
        ),
    },
)


@pytest.mark.requirement("N4")
def test_no_body_fails_the_server(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as client:
            loop = asyncio.get_running_loop()

            async def chats() -> int:
                return len((await client.call("GET", "/chats?limit=100")).json["chats"])

            @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
            @given(BODIES)
            def answered(body: dict[str, Any]) -> None:
                sent = {**body, "forwardedProps": {"model": "sim/echo:pace=0"}}
                before = asyncio.run_coroutine_threadsafe(chats(), loop).result(SECONDS)
                call = client.call("POST", RUN, json.dumps(sent).encode())
                answer = asyncio.run_coroutine_threadsafe(call, loop).result(SECONDS)
                assert answer.status in (200, 400, 404, 409, 413), answer
                if answer.status == 200:
                    fold = RunFold()
                    fold.receive(answer.body)
                    assert fold.done
                else:
                    after = asyncio.run_coroutine_threadsafe(chats(), loop).result(SECONDS)
                    assert after == before

            await asyncio.to_thread(answered)

    asyncio.run(test())
