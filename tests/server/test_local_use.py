"""Local use without a key: only a user of this machine, not a proxy or a web page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.programs import run
from tests.server.live import Client, serving
from turnstream.access import check_binding, server_key
from turnstream.client import AsyncClient
from turnstream.config import ServerSettings
from turnstream.engine import Engine
from turnstream.errors import ConfigurationError
from turnstream.server.auth import key_required

pytestmark = pytest.mark.fault(42)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with serving(Engine(f"sqlite:///{tmp_path}/turns.sqlite").application()) as port:
        yield Client(port)


PROXIED = {
    "Forwarded": "for=203.0.113.9",
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Host": "chat.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Port": "443",
    "X-Forwarded-Server": "proxy",
    "x-real-ip": "127.0.0.1",
    "Via": "1.1 proxy",
    "CF-Connecting-IP": "203.0.113.9",
}


@pytest.mark.parametrize("header", PROXIED)
async def test_what_a_proxy_sent_on_is_not_local(client: Client, header: str) -> None:
    for method, path in (("GET", "/chats"), ("POST", "/chats"), ("GET", "/models")):
        answer = await client.call(method, path, headers={header: PROXIED[header]})
        assert (answer.status, answer.json["error"]["code"]) == (401, "unauthorized")
        assert header.lower() in answer.json["error"]["message"]
        assert "TURNSTREAM_API_KEY" in answer.json["error"]["message"]
    assert (await client.call("GET", "/chats")).json["chats"] == []


CROSS_SITE = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"},
]


@pytest.mark.parametrize("headers", CROSS_SITE, ids=range(len(CROSS_SITE)))
async def test_a_page_of_another_origin_changes_nothing(client: Client, headers: dict[str, str]) -> None:
    chat = (await client.call("POST", "/chats", {"title": "kept"})).json
    turn = await client.start("hi", model="sim/story:events=2000,pace=0.01")
    for method, path in (
        ("POST", "/chats"),
        ("POST", f"/turns/{turn}/interrupt"),
        ("POST", f"/turns/{turn}/regenerate"),
        ("POST", f"/chats/{chat['id']}/turns?stream=true"),
        ("PATCH", f"/chats/{chat['id']}"),
        ("DELETE", f"/chats/{chat['id']}"),
    ):
        answer = await client.call(method, path, {} if method != "DELETE" else None, headers)
        assert (answer.status, answer.json["error"]["code"]) == (401, "unauthorized"), (method, path)
        assert "TURNSTREAM_API_KEY" in answer.json["error"]["message"]
    assert (await client.call("GET", f"/chats/{chat['id']}", headers=headers)).json == chat
    assert len((await client.call("GET", "/chats")).json["chats"]) == 2
    assert (await client.call("POST", f"/turns/{turn}/interrupt")).json["status"] == "cancelled"


async def test_a_page_of_the_same_origin_and_a_program_may_change_things(client: Client) -> None:
    here = f"127.0.0.1:{client.port}"
    for headers in (
        {},
        {"Origin": f"http://{here}"},
        {"Origin": f"http://{here}", "Sec-Fetch-Site": "same-origin"},
        {"Origin": f"http://localhost:{client.port}", "Host": f"LOCALHOST:{client.port}"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://localhost:5173", "Sec-Fetch-Site": "same-origin"},  # a development server's proxy
        {"Origin": "http://localhost", "Host": "localhost:80"},
    ):
        assert (await client.call("POST", "/chats", {}, headers)).status == 201, headers


async def test_with_a_key_proxies_and_other_origins_are_the_operator_s_affair(tmp_path: Path) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite", authenticate=key_required("k3y"))
    async with serving(engine.application()) as port:
        client = Client(port, {"Authorization": "Bearer k3y"})
        for headers in ({"X-Forwarded-For": "203.0.113.9"}, {"Origin": "https://chat.example"}):
            assert (await client.call("POST", "/chats", {}, headers)).status == 201


@pytest.mark.parametrize("status", [408, 413])
async def test_the_connection_closes_after_a_body_that_was_not_read(
    client: Client, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.server.live import read_chunks, read_head
    from turnstream.server.requests import limited_route

    monkeypatch.setattr(limited_route, "BODY_SECONDS", 0.2)
    length = "100" if status == 408 else "999999999999"
    for path in ("/chats", "/chats/x/turns?stream=true"):
        reader, writer = await client.open(
            "POST", path, headers={"Content-Length": length, "Connection": "keep-alive"}
        )
        answered, headers = await read_head(reader)
        assert (answered, headers["connection"]) == (status, "close")
        async for _ in read_chunks(reader, headers):
            pass
        assert await reader.read() == b""
        writer.close()


UNSENDABLE = ["schlüssel", "ключ", "k\u00a0y", "k\ney", "🔑", "k\x7fy"]


@pytest.mark.parametrize("key", UNSENDABLE, ids=range(len(UNSENDABLE)))
def test_a_key_that_no_header_carries_is_refused(key: str) -> None:
    environ = {"TURNSTREAM_API_KEY": key}
    for host in ("127.0.0.1", "0.0.0.0"):
        with pytest.raises(ConfigurationError, match="TURNSTREAM_API_KEY holds characters"):
            server_key(ServerSettings(host=host), environ)
    with pytest.raises(ConfigurationError, match="TURNSTREAM_API_KEY holds characters"):
        check_binding(ServerSettings(host="0.0.0.0"), environ)
    with pytest.raises(ConfigurationError, match="the server's key"):
        key_required(key)
    with pytest.raises(ConfigurationError, match="api_key"):
        AsyncClient("http://127.0.0.1:1", api_key=key)


@pytest.mark.parametrize("key", ["", " ", " key"])
def test_a_key_of_blanks_is_none(key: str) -> None:
    with pytest.raises(ConfigurationError):
        key_required(key)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_serve_does_not_start_with_such_a_key(tmp_path: Path, host: str) -> None:
    ended = await run(
        "serve", "--host", host, "--port", "0", cwd=tmp_path, environ={"TURNSTREAM_API_KEY": "schlüssel"}
    )
    assert ended.code != 0
    assert "TURNSTREAM_API_KEY holds characters" in ended.errors
    assert "Traceback" not in ended.errors
    assert not (tmp_path / "turnstream.sqlite").exists()
