"""The HTTP API, through a client on a socket (requirements A1 to A4, D2, D7, K4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import Answer, Client, Watcher, read_chunks, read_head, serving
from turnstream.config import EngineSettings, ServerSettings
from turnstream.core.identifiers import is_id, new_id
from turnstream.engine import Engine
from turnstream.server.block_shapes import RIGHT_FORM
from turnstream.server.requests import limited_route

HELLO = [{"block_type": "text", "text_content": "hello"}]
QUICK = "sim/echo:pace=0"
SLOW = "sim/story:events=2000,pace=0.01"
SILENT = "sim/story:events=20,pace=0.001,fault=silence,after=8"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a fresh server with a short heartbeat."""
    engine = Engine(
        f"sqlite:///{tmp_path}/turns.sqlite",
        settings=EngineSettings(heartbeat=0.4),
        server=ServerSettings(max_body_bytes=100_000),
    )
    async with serving(engine.application()) as port:
        yield Client(port)


async def new_chat(client: Client) -> str:
    return (await client.call("POST", "/chats")).json["id"]


async def post_turn(client: Client, chat: str, *, key: str | None = None, **fields: Any) -> Answer:
    headers = {"Idempotency-Key": key} if key is not None else None
    body = {"turn_blocks": HELLO, "model": QUICK, **fields}
    return await client.call("POST", f"/chats/{chat}/turns", body, headers)


async def finished(client: Client, turn_id: str) -> dict[str, Any]:
    await Watcher(client, turn_id).watch_to_the_end()
    return (await client.call("GET", f"/turns/{turn_id}")).json


@pytest.mark.requirement("A1")
async def test_chats_are_made_listed_renamed_and_deleted(client: Client) -> None:
    made = await client.call("POST", "/chats", {"title": "one", "metadata": {"a": 1}})
    assert made.status == 201
    chat = made.json
    assert is_id(chat["id"])
    assert (await client.call("GET", f"/chats/{chat['id']}")).json == chat
    renamed = await client.call("PATCH", f"/chats/{chat['id']}", {"title": "two"})
    assert (renamed.json["title"], renamed.json["metadata"]) == ("two", {"a": 1})
    others = [await new_chat(client) for _ in range(3)]
    first = (await client.call("GET", "/chats?limit=2")).json
    second = (await client.call("GET", f"/chats?limit=2&before={first['next']}")).json
    assert [c["id"] for c in first["chats"] + second["chats"]] == [*reversed(others), chat["id"]]
    assert second["next"] is None
    turn = (await post_turn(client, chat["id"])).json["assistant_turn"]["id"]
    assert (await client.call("DELETE", f"/chats/{chat['id']}")).status == 204
    for path in (
        f"/chats/{chat['id']}",
        f"/turns/{turn}",
        f"/turns/{turn}/stream",
        f"/chats/{chat['id']}/turns",
    ):
        assert (await client.call("GET", path)).status == 404


@pytest.mark.requirement("A1")
@pytest.mark.requirement("A3")
async def test_a_turn_is_stored_and_running_before_the_answer(client: Client) -> None:
    chat = await new_chat(client)
    answer = await post_turn(
        client, chat, model=SLOW, metadata={"page": 1}, system="be brief", params={"top_k": 3}
    )
    assert answer.status == 201
    started = answer.json
    user, assistant = started["user_turn"], started["assistant_turn"]
    assert (user["role"], user["status"], assistant["status"]) == ("user", "complete", "pending")
    assert user["blocks"][0]["text_content"] == "hello"
    assert started["stream_url"] == f"/api/turns/{assistant['id']}/stream"
    listed = (await client.call("GET", f"/chats/{chat}/turns")).json["turns"]
    assert [turn["id"] for turn in listed] == [user["id"], assistant["id"]]
    watcher = Watcher(client, assistant["id"])
    await watcher.watch(events=5)
    read = (await client.call("GET", f"/turns/{assistant['id']}")).json
    assert (read["status"], read["metadata"], read["system"]) == ("streaming", {"page": 1}, "be brief")
    blocks = (await client.call("GET", f"/turns/{assistant['id']}/blocks")).json
    assert (blocks["status"], blocks["current_block_index"], blocks["blocks"]) == ("streaming", 0, [])
    stopped = await client.call("POST", f"/turns/{assistant['id']}/interrupt")
    assert stopped.json["status"] == "cancelled"


@pytest.mark.requirement("A1")
async def test_a_conversation_goes_on_with_what_was_said(client: Client) -> None:
    chat = await new_chat(client)
    first = (await post_turn(client, chat, system="s")).json["assistant_turn"]["id"]
    assert (await finished(client, first))["status"] == "complete"
    body = {"turn_blocks": HELLO, "prev_turn_id": first}
    second = (await client.call("POST", f"/chats/{chat}/turns", body)).json
    turn = await finished(client, second["assistant_turn"]["id"])
    assert (turn["model"], turn["system"], turn["status"]) == (QUICK, "s", "complete")
    assert turn["prev_turn_id"] == second["user_turn"]["id"]
    assert second["user_turn"]["prev_turn_id"] == first


@pytest.mark.requirement("A2")
@pytest.mark.requirement("O1")
async def test_the_stream_has_its_headers_and_beats_before_the_first_token(client: Client) -> None:
    turn_id = await client.start("hi", model="sim/echo:first=30")
    reader, writer = await client.open("GET", f"/turns/{turn_id}/stream")
    async with asyncio.timeout(10):
        status, headers = await read_head(reader)
        assert status == 200
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert headers["cache-control"] == "no-cache, no-transform"
        assert headers["x-accel-buffering"] == "no"
        beats = 0
        async for chunk in read_chunks(reader, headers):
            beats += chunk.startswith(b": ")
            if beats == 2:
                break
    writer.close()
    assert (await client.call("POST", f"/turns/{turn_id}/interrupt")).json["status"] == "cancelled"


@pytest.mark.requirement("A1")
@pytest.mark.requirement("A5")
async def test_a_post_may_answer_with_the_stream_itself(client: Client) -> None:
    chat = await new_chat(client)
    body = {"turn_blocks": HELLO, "model": "sim/thinking:pace=0.001"}
    answer = await client.call("POST", f"/chats/{chat}/turns?stream=true", body)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    names = [line[7:].decode() for line in answer.body.split(b"\n") if line.startswith(b"event: ")]
    assert (names[0], names[-1]) == ("turn_start", "turn_complete")
    assert names.count("block_start") == names.count("block_stop") == 2
    assert "block_catchup" not in names
    turns = (await client.call("GET", f"/chats/{chat}/turns")).json["turns"]
    assert all(turn["id"].encode() in answer.body.split(b"\n\n")[0] for turn in turns)


@pytest.mark.requirement("A1")
async def test_an_idempotency_key_starts_one_turn(client: Client) -> None:
    chat = await new_chat(client)
    answers = await asyncio.gather(*(post_turn(client, chat, key="k", model=SLOW) for _ in range(8)))
    ids = {(a.json["user_turn"]["id"], a.json["assistant_turn"]["id"]) for a in answers}
    assert len(ids) == 1
    assert {answer.status for answer in answers} == {201}
    other = await post_turn(client, chat, key="k", model=QUICK)
    assert (other.status, other.json["error"]["code"]) == (409, "idempotency_mismatch")
    assert len((await client.call("GET", f"/chats/{chat}/turns")).json["turns"]) == 2
    [(_, turn_id)] = ids
    await client.call("POST", f"/turns/{turn_id}/interrupt")
    again = await post_turn(client, chat, key="k", model=SLOW)
    assert again.json["assistant_turn"]["status"] == "cancelled"


@pytest.mark.requirement("A4")
@pytest.mark.requirement("D2")
async def test_an_interrupt_tells_the_true_end_and_may_be_repeated(client: Client) -> None:
    turn_id = await client.start("hi", model=SILENT)
    watcher = Watcher(client, turn_id)
    while not watcher.fold.blocks:
        await watcher.watch(events=1)
    first = (await client.call("POST", f"/turns/{turn_id}/interrupt")).json
    second = (await client.call("POST", f"/turns/{turn_id}/interrupt")).json
    assert first == second
    assert (first["status"], first["turn_id"]) == ("cancelled", turn_id)
    assert first["partial_block"]["partial"] is True
    await watcher.watch_to_the_end()
    assert watcher.terminal_events() == ["turn_cancelled"]
    assert watcher.blocks == await client.stored(turn_id)
    done = await client.start("hi", model=QUICK)
    await finished(client, done)
    assert (await client.call("POST", f"/turns/{done}/interrupt")).json["status"] == "complete"
    assert (await client.call("POST", f"/turns/{new_id()}/interrupt")).status == 404


@pytest.mark.requirement("D7")
async def test_one_terminal_event_then_the_end_then_204(client: Client) -> None:
    turn_id = await client.start("hi", model="sim/echo:pace=0.001")
    watcher = Watcher(client, turn_id)
    await watcher.watch()
    assert watcher.terminal_events() == ["turn_complete"]
    assert await watcher.watch() == 204
    assert await watcher.watch(query=True) == 204


BAD_BODIES = [
    b"",
    b"{",
    b"[]",
    b"\xff\xfe",
    b'{"turn_blocks": []}',
    b'{"turn_blocks": [{"block_type": "text"}]}',
    b'{"turn_blocks": [{"block_type": "text", "text_content": "  "}]}',
    b'{"turn_blocks": [{"block_type": "tool_use", "content": {}}]}',
    b'{"turn_blocks": [{"block_type": "image", "content": {}}]}',
    b'{"turn_blocks": [{"block_type": "document", "content": {"title": "t"}}]}',
    b'{"turn_blocks": [{"block_type": "tool_result", "content": {"tool_use_id": 3}}]}',
    b'{"turn_blocks": [{"block_type": "text", "text_content": "x"}], "role": "assistant"}',
    b'{"turn_blocks": [{"block_type": "text", "text_content": "x"}], "prev_turn_id": "x"}',
    b'{"turn_blocks": [{"block_type": "text", "text_content": "x"}], "model": "nonsense"}',
    b'{"turn_blocks": [{"block_type": "text", "text_content": "x"}], "model": "nobody/knows"}',
    b'{"turn_blocks": [{"block_type": "text", "text_content": "x"}], "surprise": 1}',
    b'{"turn_blocks": [{"block_type": "text", "text_content": "\\ud800"}]}',
]


@pytest.mark.requirement("K4")
@pytest.mark.requirement("A1")
@pytest.mark.parametrize("body", BAD_BODIES)
async def test_a_bad_body_is_refused_and_nothing_is_made(client: Client, body: bytes) -> None:
    chat = await new_chat(client)
    answer = await client.call("POST", f"/chats/{chat}/turns", body)
    assert answer.status == 400, answer
    assert set(answer.json["error"]) == {"code", "message"}
    assert (await client.call("GET", f"/chats/{chat}/turns")).json["turns"] == []


@pytest.mark.requirement("K4")
@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"model": }', "the body is not JSON: Expecting value at character 10"),
        (b"[]", "the body must be a JSON object, sent with the header Content-Type: application/json"),
        (b"", "the body must be a JSON object, sent with the header Content-Type: application/json"),
        (b"{}", "body.turn_blocks: Field required; write " + RIGHT_FORM),
        (
            b'{"turn_blocks": "x", "temperature": 1}',
            (
                "body.temperature: Extra inputs are not permitted; "
                'parameters of the model, such as temperature, go into "params"'
            ),
        ),
        (b'{"turn_blocks": ["x"]}', None),
        (b'{"turn_blocks": [{"type": "image", "text": "x"}]}', None),
        (b'{"turn_blocks": [{"text": "x"}]}', None),
        (b'{"turn_blocks": {"type": "text", "text": "x"}}', None),
        (b'{"turn_blocks": []}', None),
        (b'{"turn_blocks": " "}', None),
        (b'{"message": "Why is the sky blue?"}', None),
    ],
)
async def test_a_bad_body_is_told_its_fault(client: Client, body: bytes, told: str | None) -> None:
    chat = await new_chat(client)
    answer = await client.call("POST", f"/chats/{chat}/turns", body)
    error = answer.json["error"]
    assert error["code"] == "invalid_request"
    assert error["message"] == told if told is not None else error["message"].endswith(RIGHT_FORM)


@pytest.mark.requirement("A1")
@pytest.mark.parametrize("query", ["", "?stream=true"])
async def test_turn_blocks_may_be_a_text_or_have_the_short_form(client: Client, query: str) -> None:
    chat = await new_chat(client)
    forms = ["hello", [{"type": "text", "text": "hello"}], HELLO]
    for blocks in forms:
        answer = await client.call(
            "POST", f"/chats/{chat}/turns{query}", {"turn_blocks": blocks, "model": QUICK}
        )
        assert answer.status == (200 if query else 201), answer
    for listed in (await client.call("GET", f"/chats/{chat}/turns")).json["turns"]:
        turn = await finished(client, listed["id"])
        assert [(row["block_type"], row["text_content"]) for row in turn["blocks"]] == [("text", "hello")]


@pytest.mark.requirement("A1")
async def test_both_forms_of_a_text_are_one_request(client: Client) -> None:
    chat = await new_chat(client)
    first = await post_turn(client, chat, key="k")
    again = await post_turn(client, chat, key="k", turn_blocks="hello")
    assert again.json["user_turn"]["id"] == first.json["user_turn"]["id"]
    assert (await post_turn(client, chat, key="k", turn_blocks="other")).status == 409


@pytest.mark.requirement("K4")
async def test_what_is_too_large_wrong_or_unknown_is_refused_as_json(client: Client) -> None:
    chat = await new_chat(client)
    large = {"turn_blocks": [{"block_type": "text", "text_content": "x" * 100_000}]}
    cases = [
        await client.call("POST", f"/chats/{chat}/turns", large),
        await client.call("PUT", "/chats"),
        await client.call("GET", "/nothing/here"),
        await client.call("POST", f"/chats/{new_id()}/turns", {"turn_blocks": HELLO}),
        await post_turn(client, chat, prev_turn_id=new_id()),
        await post_turn(client, chat, key="k" * 300),
        await client.call("GET", "/chats?limit=0"),
        await client.call("GET", "/chats?before=x"),
    ]
    assert [case.status for case in cases] == [413, 405, 404, 404, 404, 400, 400, 400]
    assert all(set(case.json["error"]) == {"code", "message"} for case in cases)
    assert (await client.call("GET", f"/chats/{chat}/turns")).json["turns"] == []


@pytest.mark.requirement("A1")
async def test_answering_to_a_turn_that_is_being_written_is_a_conflict(client: Client) -> None:
    chat = await new_chat(client)
    turn_id = (await post_turn(client, chat, model=SLOW)).json["assistant_turn"]["id"]
    answer = await post_turn(client, chat, prev_turn_id=turn_id)
    assert (answer.status, answer.json["error"]["code"]) == (409, "turn_active")
    await client.call("POST", f"/turns/{turn_id}/interrupt")
    assert (await post_turn(client, chat, prev_turn_id=turn_id)).status == 201


async def test_health_models_and_reference(client: Client) -> None:
    root = Client(client.port, prefix="")
    assert (await root.call("GET", "/healthz")).json["status"] == "ok"
    page = (await root.call("GET", "/docs")).body.decode()
    assert "POST /api/chats/{chat_id}/turns</dt>" in page, (
        "a browser that loads nothing from afar shows the routes"
    )
    assert "turn_blocks, role?, prev_turn_id?</dd>" in page
    assert "<dd>query: after, from_block</dd>\n<dd>header: Last-Event-ID</dd>" in page
    assert "header: Idempotency-Key" in page
    assert "url: '/openapi.json'" in page
    paths = (await root.call("GET", "/openapi.json")).json["paths"]
    assert "/api/chats/{chat_id}/turns" in paths
    models = (await client.call("GET", "/models")).json
    assert [model["id"] for model in models if model["default"]] == ["sim/demo"]


@pytest.mark.requirement("K3")
async def test_only_this_machine_by_its_own_name_is_local(client: Client) -> None:
    rebound = await client.call("GET", "/chats", headers={"Host": "evil.example"})
    assert (rebound.status, rebound.json["error"]["code"]) == (401, "unauthorized")


@pytest.mark.requirement("C3")
@pytest.mark.parametrize("cursor", ["1-1", "0-0", "999999999999-9999999999999999", "ahead"])
async def test_a_cursor_of_elsewhere_gets_a_whole_snapshot(client: Client, cursor: str) -> None:
    turn_id = await client.start("tell", model="sim/thinking:pace=0,seed=2")
    first = Watcher(client, turn_id)
    await first.watch_to_the_end()
    if cursor == "ahead":
        generation, seq = first.ids[-1].split("-")
        cursor = f"{generation}-{int(seq) + 1}"
    watcher = Watcher(client, turn_id)
    watcher.ids.append(cursor)
    await watcher.watch()
    assert watcher.names[0] == "turn_start"
    assert watcher.blocks == await client.stored(turn_id)
    assert watcher.ended


@pytest.mark.requirement("C2")
async def test_from_block_leaves_out_what_the_client_has(client: Client) -> None:
    turn_id = await client.start("tell", model="sim/thinking:pace=0,seed=2")
    await Watcher(client, turn_id).watch_to_the_end()
    stored = await client.stored(turn_id)
    body = (await client.call("GET", f"/turns/{turn_id}/stream?from_block=1")).body
    assert body.count(b"event: block_catchup\n") == len(stored) - 1
    assert b'"block_index":0' not in body


@pytest.mark.requirement("A6")
@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/turns/01a1fc3d-f972-7b3d-9880-2b4d5256380e/stream", 404, "not_found"),
        ("/turns/nonsense/stream", 400, "invalid_id"),
        ("/turns/0198c0de-0000-4000-8000-000000000000/stream", 400, "invalid_id"),
    ],
)
async def test_no_such_turn(client: Client, path: str, status: int, code: str) -> None:
    answer = await client.call("GET", path)
    assert (answer.status, answer.json["error"]["code"]) == (status, code)


@pytest.mark.requirement("C3")
async def test_what_is_no_cursor_is_refused(client: Client) -> None:
    turn_id = await client.start("tell", model=QUICK)
    for cursor in ("x", "1", "1-", "-1", "1-2-3", "01-2", "1.5-2", "%D9%A1-2", "1-2%20"):
        answer = await client.call("GET", f"/turns/{turn_id}/stream?after={cursor}")
        assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_cursor")


@pytest.mark.requirement("K4")
async def test_a_body_that_does_not_come_is_not_waited_for(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limited_route, "BODY_SECONDS", 0.2)
    reader, writer = await client.open("POST", "/chats", headers={"Content-Length": "100"})
    async with asyncio.timeout(10):
        status, _ = await read_head(reader)
    writer.close()
    assert status == 408
