"""Requests of AG-UI that are hostile, unusual or simultaneous."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from ag_ui.core import RunAgentInput
from starlette.requests import Request

from tests.dialects.run_fold import RunFold
from tests.server.live import SECONDS, Client, read_chunks, read_head, serving
from tests.server.protocols.test_ag_ui import RUN, ask, asked, running, turn_of, user
from turnstream.engine import Engine
from turnstream.server.auth import Principal
from turnstream.store.operations.start import StartTurns

LONG = "sim/story:events=100000,pace=0.001"


async def turns_of_all_chats(client: Client) -> list[list[str]]:
    chats = (await client.call("GET", "/chats")).json["chats"]
    paths = [f"/chats/{chat['id']}/turns" for chat in chats]
    return [[turn["role"] for turn in (await client.call("GET", path)).json["turns"]] for path in paths]


@pytest.mark.requirement("N4")
@pytest.mark.parametrize(
    ("version", "outcome"),
    [
        ("1.0", "cancelled"),
        ("1", "cancelled"),
        ("12.3.4", "cancelled"),
        ("0.9", "error"),
        ("00", "error"),
        ("", "error"),
        ("x", "error"),
        ("١.0", "error"),
        ("9" * 100_000, "cancelled"),
        (None, "error"),
    ],
)
async def test_a_cancelled_run_ends_as_the_clients_version_knows_it(
    tmp_path: Path, version: str | None, outcome: str
) -> None:
    async with running(tmp_path) as client, asyncio.timeout(SECONDS):
        body = {**asked("r1", user("one"), model=LONG), "protocolVersion": version}
        reader, writer = await client.open("POST", RUN, body)
        status, headers = await read_head(reader)
        assert status == 200
        fold = RunFold([user("one")])
        async for chunk in read_chunks(reader, headers):
            fold.receive(chunk)
            if not fold.done and "TEXT_MESSAGE_CONTENT" in fold.kinds:
                await client.call("POST", f"{RUN}/runs/r1/stop")
        writer.close()
        assert fold.outcome == outcome


@pytest.mark.requirement("N4")
async def test_one_run_id_of_two_owners_at_once_is_two_turns(tmp_path: Path) -> None:
    def authenticate(request: Request) -> Principal:
        return Principal(request.headers["x-user"])

    engine = Engine(f"sqlite:///{tmp_path / 'chats.sqlite'}", authenticate=authenticate)
    async with serving(engine.application()) as port:
        clients = [Client(port, {"x-user": name}) for name in ("alice", "bob")]
        bodies = [asked("r1", user(name), model="sim/echo:pace=0") for name in ("one", "two")]
        folds = await asyncio.gather(
            *(ask(client, body) for client, body in zip(clients * 2, bodies * 2, strict=True))
        )
        assert [fold.texts()[-1] for fold in folds] == ["one", "two", "one", "two"]
        assert [await turns_of_all_chats(client) for client in clients] == [[["user", "assistant"]]] * 2
        stopped = await clients[1].call("POST", f"{RUN}/runs/{turn_of(folds[0])}/stop")
        assert stopped.status == 404


@pytest.mark.requirement("N4")
async def test_the_model_is_called_once_for_two_posts_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first POST calls the model before its rows are committed, and the second one joins its turn."""
    engine = Engine(f"sqlite:///{tmp_path / 'chats.sqlite'}")
    launched: list[str] = []
    writes: list[StartTurns] = []
    launch, write = engine.commands.registry.launch, engine.commands.store.write
    claim, claims, both = engine.commands.keys.claim, 0, asyncio.Event()

    def noted_claim(owner: str, key: str) -> Any:
        nonlocal claims
        claims += 1
        if claims == 2:
            both.set()
        return claim(owner, key)

    def noted_launch(executor: Any, source: Any) -> Any:
        launched.append(executor.turn.id)
        return launch(executor, source)

    async def late_write(operation: Any) -> Any:
        if isinstance(operation, StartTurns):
            writes.append(operation)
            await both.wait()  # the second POST is here before the first one is stored
            assert launched == [writes[0].assistant_turn.id], "before the commit"
        return await write(operation)

    monkeypatch.setattr(engine.commands.keys, "claim", noted_claim)
    monkeypatch.setattr(engine.commands.registry, "launch", noted_launch)
    monkeypatch.setattr(engine.commands.store, "write", late_write)
    async with serving(engine.application()) as port:
        client = Client(port)
        body = asked("r1", user("one"), model="sim/echo:pace=0")
        folds = await asyncio.gather(ask(client, body), ask(client, body))
        assert turn_of(folds[0]) == turn_of(folds[1])
        assert len(writes) == 1
        assert launched == [turn_of(folds[0])]
        assert await turns_of_all_chats(client) == [["user", "assistant"]]
        assert not engine.commands.keys._uses


@pytest.mark.requirement("N4")
async def test_a_question_that_is_sent_again_gets_another_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        first = await ask(client, asked("r1", user("one")))
        second = await ask(client, asked("r2", user("one")))
        assert turn_of(second) != turn_of(first)
        third = await ask(client, asked("r3", *second.messages, user("two")))
        again = await ask(client, asked("r4", *second.messages, user("two")))
        assert turn_of(third) != turn_of(again)
        assert await turns_of_all_chats(client) == [
            ["user", "assistant", "assistant", "user", "assistant", "assistant"]
        ]
        other = {"id": "another id", "role": "user", "content": "one"}
        changed = {**user("one"), "content": "one!"}
        await ask(client, asked("r5", other))
        await ask(client, asked("r6", changed))
        assert (await turns_of_all_chats(client))[0].count("user") == 4


@pytest.mark.requirement("N4")
async def test_a_run_id_may_be_any_text_and_a_thread_names_it(tmp_path: Path) -> None:
    async with running(tmp_path) as client, asyncio.timeout(SECONDS):
        for thread in ("first", "second"):
            body = {**asked("a/run?#% 日本", user(thread), model=LONG), "threadId": thread}
            reader, writer = await client.open("POST", RUN, body)
            _, headers = await read_head(reader)
            await anext(aiter(read_chunks(reader, headers)))
            writer.close()
        run = "a%2Frun%3F%23%25%20%E6%97%A5%E6%9C%AC"
        stopped = await client.call("POST", f"{RUN}/runs/{run}/stop?threadId=first")
        assert stopped.json["status"] == "cancelled"
        assert (await client.call("POST", f"{RUN}/runs/{run}/stop?threadId=third")).status == 404
        newest = await client.call("POST", f"{RUN}/runs/{run}/stop")
        assert newest.json["turnId"] > stopped.json["turnId"]


@pytest.mark.requirement("N4")
async def test_deleting_the_chat_cancels_its_run(tmp_path: Path) -> None:
    async with running(tmp_path) as client, asyncio.timeout(SECONDS):
        reader, writer = await client.open("POST", RUN, asked("r1", user("one"), model=LONG))
        _, headers = await read_head(reader)
        fold = RunFold([user("one")])
        chunks = read_chunks(reader, headers)
        while "TEXT_MESSAGE_CONTENT" not in fold.kinds:
            fold.receive(await anext(chunks))
        (chat,) = (await client.call("GET", "/chats")).json["chats"]
        await client.call("DELETE", f"/chats/{chat['id']}")
        async for chunk in chunks:
            fold.receive(chunk)
        writer.close()
        assert fold.outcome == "cancelled"
        again = await ask(client, asked("r1", user("one")))
        assert again.texts()[-1] == "one", "the thread and the run are free again"


@pytest.mark.requirement("N4")
@pytest.mark.parametrize("levels", [60, 450, 20_000])
async def test_deep_json_is_refused_wherever_it_is(tmp_path: Path, levels: int) -> None:
    deep = '{"a":[' * levels + '"deep"' + "]}" * levels
    async with running(tmp_path) as client:
        for place in (
            '{"id":"x","role":"activity","activityType":"plan","content":%s}',
            '{"id":"x","role":"assistant","content":"a","metadata":%s}',
        ):
            body = json.dumps(asked("r1", user("one"))).replace(
                '"messages": [', '"messages": [' + place % deep + ","
            )
            answer = await client.call("POST", RUN, body.encode())
            assert answer.status == 400, answer
        state = json.dumps(asked("r1", user("one"))).replace('"state": {}', f'"state": {deep}')
        assert (await client.call("POST", RUN, state.encode())).status in (200, 400)


@pytest.mark.requirement("N4")
@pytest.mark.parametrize("place", ["threadId", "runId", "content", "id"])
async def test_half_a_surrogate_pair_is_refused_wherever_it_is(tmp_path: Path, place: str) -> None:
    async with running(tmp_path) as client:
        body = json.dumps(asked("r1", {**user("one"), "name": "x"})).replace(
            f'"{place}": "', f'"{place}": "\\ud800'
        )
        answer = await client.call("POST", RUN, body.encode())
        assert (answer.status, "half of a surrogate pair" in answer.json["error"]["message"]) == (400, True)
        assert (await client.call("GET", "/chats")).json["chats"] == []


@pytest.mark.requirement("N4")
async def test_a_request_full_of_nulls_is_answered_and_its_messages_come_back_without_them(
    tmp_path: Path,
) -> None:
    source = {"type": "url", "value": "https://a.example/x.png", "mimeType": None}
    parts = [{"type": "text", "text": "See", "metadata": None}, {"type": "image", "source": source}]
    function = {"name": "weather", "arguments": "{}"}
    call = {"id": "c1", "type": "function", "function": function, "encryptedValue": None, "metadata": None}
    given = {
        "threadId": "t",
        "runId": "r1",
        "protocolVersion": None,
        "parentRunId": None,
        "state": None,
        "messages": [
            {"id": "u1", "role": "user", "content": parts, "name": None},
            {"id": "a1", "role": "assistant", "content": None, "toolCalls": [call]},
            {"id": "t1", "role": "tool", "toolCallId": "c1", "content": "sunny", "error": None},
            {"id": "u2", "role": "user", "content": "Well?", "encryptedValue": None},
        ],
        "tools": None,
        "context": None,
        "forwardedProps": {"model": "sim/echo:pace=0", "tools": None},
        "resume": None,
    }
    RunAgentInput.model_validate(given)
    async with running(tmp_path) as client:
        first = await ask(client, given)
        assert first.texts()[-1] == "Well?"
        again = await ask(client, given)
        sent = [message for message in again.messages if message["id"] in ("u1", "a1", "t1", "u2")]
        assert len(sent) == 4
        assert "null" not in json.dumps(sent)


@pytest.mark.requirement("N4")
async def test_metadata_of_the_client_keeps_its_nulls(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        message = {**user("one"), "metadata": {"kept": None, "in": [{"a": None}]}, "name": None}
        await ask(client, asked("r1", message))
        again = await ask(client, asked("r1", message))
        assert again.messages[0] == {**user("one"), "metadata": message["metadata"]}
