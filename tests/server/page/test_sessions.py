"""Sessions of the page: the browser sends the key once, then gets a cookie that only the page's own requests
may use."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server.live import Answer, Client, serving
from turnstream.config import AuditSettings
from turnstream.engine import Engine
from turnstream.server.page import sessions
from turnstream.server.page.sessions import COOKIE, SESSION_SECONDS, KeyOrSession

KEY = "k3y-" * 8
OWN = {"X-Turnstream-Page": "1", "Sec-Fetch-Site": "same-origin"}


def engine_with(key: str, folder: Path) -> Engine:
    return Engine(f"sqlite:///{folder}/turns.sqlite", authenticate=KeyOrSession(key))


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with serving(engine_with(KEY, tmp_path).application()) as port:
        yield Client(port)


async def signed_in(client: Client, **headers: str) -> Answer:
    answer = await client.call("POST", "/session", {"key": KEY}, {**OWN, **headers})
    assert answer.status == 200, answer
    return answer


def cookie_of(answer: Answer) -> dict[str, str]:
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}


async def test_the_cookie_of_a_session_opens_the_api(client: Client) -> None:
    state = {"signed_in": False, "needs_key": True}
    assert (await client.call("GET", "/session")).json == state
    assert (await client.call("GET", "/chats")).status == 401
    cookie = cookie_of(await signed_in(client))
    assert (await client.call("GET", "/session", headers=cookie)).json["signed_in"]
    assert (await client.call("GET", "/chats", headers={**OWN, **cookie})).status == 200
    assert (await client.call("POST", "/chats", {"title": "a"}, {**OWN, **cookie})).status == 201


async def test_an_audit_log_changes_nothing_but_records_a_wrong_key(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    engine = Engine(
        f"sqlite:///{tmp_path}/turns.sqlite",
        authenticate=KeyOrSession(KEY),
        audit=AuditSettings(path=str(log)),
    )
    async with serving(engine.application()) as port:
        client = Client(port)
        assert (await client.call("GET", "/session")).json == {"signed_in": False, "needs_key": True}
        assert (await client.call("POST", "/session", {"key": "another"}, OWN)).status == 401
        cookie = cookie_of(await signed_in(client))
        assert (await client.call("GET", "/session", headers=cookie)).json["signed_in"]
        assert (await client.call("GET", "/chats", headers={**OWN, **cookie})).status == 200
    (refused,) = [
        line for line in map(json.loads, log.read_text().splitlines()) if line["act"] == "access.refused"
    ]
    assert refused["details"]["count"] == 1


async def test_no_script_and_no_other_site_gets_the_cookie(client: Client) -> None:
    given = (await signed_in(client)).headers["set-cookie"].lower()
    assert "httponly" in given
    assert "samesite=strict" in given
    assert f"max-age={SESSION_SECONDS}" in given
    assert "secure" not in given
    assert KEY not in given
    answer = await signed_in(
        client, Origin="https://chat.example", Host="chat.example", **{"Sec-Fetch-Site": "same-origin"}
    )
    assert "secure" in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin"},
        {"X-Turnstream-Page": "1", "Sec-Fetch-Site": "cross-site"},
        {"X-Turnstream-Page": "1", "Sec-Fetch-Site": "same-site"},
        {"X-Turnstream-Page": "1", "Origin": "https://evil.example"},
        {"X-Turnstream-Page": "1", "Origin": "null"},
        {"Content-Type": "text/plain"},
    ],
)
async def test_a_cookie_alone_changes_nothing(client: Client, headers: dict[str, str]) -> None:
    cookie = cookie_of(await signed_in(client))
    for method, path in (("POST", "/chats"), ("DELETE", "/session")):
        answer = await client.call(method, path, {"title": "a"}, {**cookie, **headers})
        assert answer.status == 401
        assert "own page" in answer.json["error"]["message"]
    assert (await client.call("GET", "/chats", headers={**cookie, **OWN})).json["chats"] == []


async def test_a_page_of_another_origin_signs_nobody_in(client: Client) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site", "X-Turnstream-Page": "1"}, {}):
        answer = await client.call("POST", "/session", {"key": KEY}, headers)
        assert answer.status == 401
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("key", ["wrong", "", KEY + "x", "ключ", "k" * 4097])
async def test_a_wrong_key_gets_no_cookie(client: Client, key: str) -> None:
    answer = await client.call("POST", "/session", {"key": key}, OWN)
    assert answer.status == (400 if len(key) > 4096 else 401)
    assert "set-cookie" not in answer.headers


async def test_an_altered_or_expired_cookie_is_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = cookie_of(await signed_in(client))["Cookie"].partition("=")[2]
    expiry, nonce, signature = value.split(".")
    for altered in (
        f"{int(expiry) + 1}.{nonce}.{signature}",
        f"{expiry}.{nonce[::-1]}.{signature}",
        f"{expiry}.{nonce}.{signature[::-1]}",
        value[:-1],
        "",
    ):
        assert (await client.call("GET", "/chats", headers={"Cookie": f"{COOKIE}={altered}"})).status == 401
    later = time.time() + SESSION_SECONDS + 1
    monkeypatch.setattr(sessions.time, "time", lambda: later)
    assert (await client.call("GET", "/chats", headers={"Cookie": f"{COOKIE}={value}"})).status == 401


async def test_another_key_of_the_server_ends_all_sessions(client: Client, tmp_path: Path) -> None:
    cookie = cookie_of(await signed_in(client))
    (tmp_path / "other").mkdir()
    async with serving(engine_with("another-key", tmp_path / "other").application()) as port:
        assert (await Client(port).call("GET", "/chats", headers=cookie)).status == 401
    async with serving(engine_with(KEY, tmp_path / "other").application()) as port:
        assert (await Client(port).call("GET", "/chats", headers=cookie)).status == 200


async def test_the_key_itself_still_works_and_decides(client: Client) -> None:
    cookie = cookie_of(await signed_in(client))
    assert (await client.call("POST", "/chats", {}, {"Authorization": f"Bearer {KEY}"})).status == 201
    wrong = {**cookie, **OWN, "Authorization": "Bearer wrong"}
    assert (await client.call("GET", "/chats", headers=wrong)).status == 401


async def test_signing_out_removes_the_cookie(client: Client) -> None:
    cookie = cookie_of(await signed_in(client))
    answer = await client.call("DELETE", "/session", headers={**OWN, **cookie})
    assert answer.status == 204
    assert f"{COOKIE}=" in answer.headers["set-cookie"]
    assert "max-age=0" in answer.headers["set-cookie"].lower()


async def test_a_server_without_a_key_needs_no_session(tmp_path: Path) -> None:
    async with serving(Engine(f"sqlite:///{tmp_path}/turns.sqlite").application()) as port:
        client = Client(port)
        assert (await client.call("GET", "/session")).json == {"signed_in": True, "needs_key": False}
        answer = await client.call("POST", "/session", {"key": "any"}, OWN)
        assert answer.json == {"signed_in": True, "needs_key": False}
        assert "set-cookie" not in answer.headers
        assert (await client.call("DELETE", "/session", headers=OWN)).status == 204
