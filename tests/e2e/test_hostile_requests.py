"""Requests that only a broken or hostile client sends. Each gets a JSON error with the right status, and
creates nothing. Ids of other owners do not exist for the client (requirements A1, A6, K4)."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.e2e.processes import MAX_BODY, ServerProcess
from tests.server.live import Answer, Client, Watcher, read_chunks, read_head
from turnstream.core.identifiers import new_id

ALICE, BOB, NOBODY = {"X-User": "alice"}, {"X-User": "bob"}, {"X-User": "nobody"}
TEXT = {"turn_blocks": [{"block_type": "text", "text_content": "x"}], "model": "sim/echo:pace=0"}


@pytest.fixture
def alice(server: ServerProcess) -> Client:
    return Client(server.port, ALICE)


async def new_chat(client: Client) -> str:
    return (await client.call("POST", "/chats")).json["id"]


def is_refused(answer: Answer, status: int, code: str | None = None) -> bool:
    error = answer.json["error"]
    assert set(error) == {"code", "message"}
    assert all(isinstance(value, str) and value for value in error.values())
    assert answer.headers["content-type"] == "application/json"
    assert answer.status == status, answer
    return code is None or error["code"] == code


@pytest.mark.requirement("A1", "A4")
async def test_what_belongs_to_another_is_not_found(server: ServerProcess, alice: Client) -> None:
    chat = await new_chat(alice)
    started = (await alice.call("POST", f"/chats/{chat}/turns", TEXT)).json
    turn = started["assistant_turn"]["id"]
    await Watcher(alice, turn).watch_to_the_end()
    bob = Client(server.port, BOB)
    asked = [
        ("GET", f"/chats/{chat}", None),
        ("PATCH", f"/chats/{chat}", {"title": "mine"}),
        ("DELETE", f"/chats/{chat}", None),
        ("GET", f"/chats/{chat}/turns", None),
        ("POST", f"/chats/{chat}/turns", TEXT),
        ("GET", f"/turns/{turn}", None),
        ("GET", f"/turns/{turn}/blocks", None),
        ("GET", f"/turns/{turn}/stream", None),
        ("POST", f"/turns/{turn}/interrupt", None),
        ("GET", f"/turns/{started['user_turn']['id']}", None),
    ]
    for method, path, body in asked:
        answer = await bob.call(method, path, body)
        unknown = await bob.call(method, path.replace(chat, new_id()).replace(turn, new_id()), body)
        assert is_refused(answer, 404, "not_found")
        if path.count(chat) + path.count(turn):
            assert answer.body == unknown.body  # not even the words tell that there is something
    own_chat = await new_chat(bob)
    borrowed = await bob.call("POST", f"/chats/{own_chat}/turns", {**TEXT, "prev_turn_id": turn})
    assert is_refused(borrowed, 404)
    assert chat not in [each["id"] for each in (await bob.call("GET", "/chats?limit=200")).json["chats"]]
    assert (await alice.call("GET", f"/turns/{turn}")).json["metadata"] == {"from": "alice"}


@pytest.mark.requirement("A1")
async def test_who_is_nobody_gets_nothing(server: ServerProcess, alice: Client) -> None:
    turn = await alice.start("hi", model="sim/echo:pace=0")
    nobody = Client(server.port, NOBODY)
    for method, path in (
        ("GET", "/chats"),
        ("POST", "/chats"),
        ("GET", f"/turns/{turn}/stream"),
        ("POST", f"/turns/{turn}/interrupt"),
        ("GET", "/models"),
    ):
        assert is_refused(await nobody.call(method, path), 401, "unauthorized")


@pytest.mark.requirement("A6")
@pytest.mark.parametrize(
    "bad",
    [
        "x",
        "1",
        "01a1fc3d-f972-4b3d-9880-2b4d5256380e",
        "01A1FC3D-F972-7B3D-9880-2B4D5256380E",
        "%00",
        "a" * 3000,
    ],
    ids=["letter", "number", "version 4", "upper case", "NUL", "long"],
)
async def test_a_malformed_id_is_a_400(alice: Client, bad: str) -> None:
    for method, path, body in (
        ("GET", f"/chats/{bad}", None),
        ("PATCH", f"/chats/{bad}", {"title": "x"}),
        ("DELETE", f"/chats/{bad}", None),
        ("GET", f"/chats/{bad}/turns", None),
        ("POST", f"/chats/{bad}/turns", TEXT),
        ("GET", f"/turns/{bad}", None),
        ("GET", f"/turns/{bad}/blocks", None),
        ("GET", f"/turns/{bad}/stream", None),
        ("POST", f"/turns/{bad}/interrupt", None),
    ):
        assert is_refused(await alice.call(method, path, body), 400, "invalid_id"), path


@pytest.mark.requirement("C3")
async def test_a_malformed_cursor_is_a_400_and_a_foreign_one_a_snapshot(alice: Client) -> None:
    turn = await alice.start("hi", model="sim/echo:pace=0")
    await Watcher(alice, turn).watch_to_the_end()
    for bad in (
        "x",
        "1",
        "1-",
        "-1",
        "1-2-3",
        " 1-2 x",
        "1.0-2",
        "９-１".encode().decode("latin-1"),
        "1-" + "9" * 40,
    ):
        answer = await alice.call("GET", f"/turns/{turn}/stream", headers={"Last-Event-ID": bad})
        assert is_refused(answer, 400, "invalid_cursor"), bad
    for bad in ("x", "1-", "%31-x", "%F0%9F%98%80"):
        answer = await alice.call("GET", f"/turns/{turn}/stream?after={bad}")
        assert is_refused(answer, 400, "invalid_cursor"), bad
    for bad in ("x", "-1", "1.5", "99999999999999999999", "%D9%A1"):
        assert is_refused(await alice.call("GET", f"/turns/{turn}/stream?from_block={bad}"), 400), bad
    for foreign in ("1-1", "0-0", "2147483647-999999", "999999999999-9999999999999999"):
        answer = await alice.call("GET", f"/turns/{turn}/stream?after={foreign}")
        assert answer.status == 200
        assert b"event: turn_start\n" in answer.body.split(b"\n\n")[0]


@pytest.mark.requirement("C3")
async def test_the_header_s_cursor_wins_over_the_query_s(alice: Client) -> None:
    turn = await alice.start("hi", model="sim/echo:pace=0")
    watcher = Watcher(alice, turn)
    await watcher.watch_to_the_end()
    path = f"/turns/{turn}/stream?after={watcher.ids[0]}"
    assert (await alice.call("GET", path, headers={"Last-Event-ID": watcher.ids[-1]})).status == 204
    assert (await alice.call("GET", path)).status == 200


VALUES_NOT_FOR_JSON = ["NaN", "Infinity", "1e400", '"\\ud800"', "1" * 5000]
NESTED = "[" * 20_000 + "]" * 20_000


@pytest.mark.requirement("K4")
@pytest.mark.parametrize("value", [*VALUES_NOT_FOR_JSON, NESTED], ids=lambda value: value[:12])
@pytest.mark.parametrize("place", ["params", "metadata", "content"])
async def test_values_that_cannot_be_kept_are_refused(alice: Client, place: str, value: str) -> None:
    chat = await new_chat(alice)
    block = '{"block_type": "text", "text_content": "x"%s}' % (
        f', "content": {{"a": {value}}}' if place == "content" else ""
    )
    more = f', "{place}": {{"a": {value}}}' if place != "content" else ""
    body = f'{{"turn_blocks": [{block}], "model": "sim/echo:pace=0"{more}}}'.encode()
    answer = await alice.call("POST", f"/chats/{chat}/turns", body)
    assert is_refused(answer, 400)
    assert (await alice.call("GET", f"/chats/{chat}/turns")).json["turns"] == []
    if place == "metadata":
        made = await alice.call("POST", "/chats", f'{{"metadata": {{"a": {value}}}}}'.encode())
        assert is_refused(made, 400)
        changed = await alice.call("PATCH", f"/chats/{chat}", f'{{"metadata": {{"a": {value}}}}}'.encode())
        assert is_refused(changed, 400)


@pytest.mark.requirement("K4")
async def test_strange_text_is_kept_as_it_is(alice: Client) -> None:
    strange = "NUL \x00, \u2028, \u0085, \ufeff, 👩‍👩‍👧‍👦, \r\n\r\n, data: x\n\nevent: y"
    chat = await new_chat(alice)
    body = {"turn_blocks": [{"block_type": "text", "text_content": strange}], "model": "sim/echo:pace=0"}
    body["metadata"] = {"k": strange}  # type: ignore[assignment]
    started = (await alice.call("POST", f"/chats/{chat}/turns", body)).json
    turn = started["assistant_turn"]["id"]
    watcher = Watcher(alice, turn)
    await watcher.watch_to_the_end()
    assert watcher.blocks[0]["text_content"] == strange
    assert watcher.blocks == await alice.stored(turn)
    assert started["user_turn"]["metadata"]["k"] == strange


@pytest.mark.requirement("K4")
async def test_bodies_over_the_limit_are_refused_however_they_come(
    server: ServerProcess, alice: Client
) -> None:
    chat = await new_chat(alice)
    path = f"/chats/{chat}/turns"
    assert is_refused(await alice.call("POST", path, b"x" * (MAX_BODY + 1)), 413, "too_large")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"POST /api{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: 999999999999\r\n\r\n".encode())
    async with asyncio.timeout(10):
        status, headers = await read_head(reader)
        body = b"".join([chunk async for chunk in read_chunks(reader, headers)])
    writer.close()
    assert is_refused(Answer(status, headers, body), 413, "too_large")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    for _ in range(2 * MAX_BODY // 4096):
        writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
    writer.write(b"0\r\n\r\n")
    async with asyncio.timeout(10):
        status, headers = await read_head(reader)
        body = b"".join([chunk async for chunk in read_chunks(reader, headers)])
    writer.close()
    assert is_refused(Answer(status, headers, body), 413, "too_large")
    assert (await alice.call("GET", path)).json["turns"] == []


@pytest.mark.requirement("K4")
async def test_metadata_is_small_and_images_are_texts(alice: Client) -> None:
    chat = await new_chat(alice)
    fits, too_large = {"k": "ü" * 8000}, {"k": "ü" * 9000}
    assert (await alice.call("PATCH", f"/chats/{chat}", {"metadata": fits})).json["metadata"] == fits
    for method, path, body in (
        ("POST", "/chats", {"metadata": too_large}),
        ("PATCH", f"/chats/{chat}", {"metadata": too_large}),
        ("POST", f"/chats/{chat}/turns", {**TEXT, "metadata": too_large}),
    ):
        assert is_refused(await alice.call(method, path, body), 400)
    for content in ({"url": 5}, {"media_type": "image/png"}, {"media_type": "image/png", "data": [1]}):
        body = {"turn_blocks": [{"block_type": "image", "content": content}]}
        assert is_refused(await alice.call("POST", f"/chats/{chat}/turns", body), 400)


@pytest.mark.requirement("K4")
async def test_other_methods_paths_and_types(alice: Client) -> None:
    chat, turn = await new_chat(alice), new_id()
    for method, path in (("PUT", f"/chats/{chat}"), ("DELETE", "/chats"), ("POST", f"/turns/{turn}/stream")):
        answer = await alice.call(method, path)
        assert is_refused(answer, 405, "method_not_allowed")
        assert answer.headers["allow"]
    for path in (
        "/",
        "/chat",
        f"/turns/{turn}/streams",
        f"/turns/{turn}/stream/x",
        "/chats/../../etc/passwd",
    ):
        assert is_refused(await alice.call("GET", path), 404, "not_found"), path
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = await alice.call(
            "POST", f"/chats/{chat}/turns", json.dumps(TEXT).encode(), {"Content-Type": kind}
        )
        assert is_refused(answer, 400)
    assert is_refused(await alice.call("POST", f"/chats/{chat}/turns?stream=perhaps", TEXT), 400)
    assert (await alice.call("GET", f"/chats/{chat}/turns")).json["turns"] == []


@pytest.mark.requirement("A2", "D2")
async def test_a_head_request_or_a_client_that_leaves_at_once_harms_nothing(
    server: ServerProcess, alice: Client
) -> None:
    turn = await alice.start("hi", model="sim/story:events=40,pace=0.01")
    for _ in range(30):
        _, writer = await alice.open("GET", f"/turns/{turn}/stream")
        writer.transport.abort()
    _, writer = await alice.open("HEAD", f"/turns/{turn}/stream")
    writer.close()
    watcher = Watcher(alice, turn)
    await watcher.watch_to_the_end()
    assert watcher.blocks == await alice.stored(turn)
    assert "Traceback" not in server.log()
