"""Web pages of other origins, and the page at `/`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server.live import Client, serving
from turnstream.config import ServerSettings, load_settings
from turnstream.engine import Engine
from turnstream.errors import ConfigurationError
from turnstream.server.auth import key_required
from turnstream.server.page.built_page import BuiltPage

LISTED = "https://app.example"
OTHER = "https://evil.example"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    server = ServerSettings(cors_origins=(LISTED, "http://localhost:5173"))
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite", server=server)
    async with serving(engine.application()) as port:
        yield Client(port)


def browser(origin: str, site: str = "cross-site") -> dict[str, str]:
    return {"Origin": origin, "Sec-Fetch-Site": site}


@pytest.mark.parametrize("origin", [LISTED, "http://localhost:5173"])
async def test_a_listed_page_starts_a_turn_and_reads_its_stream(client: Client, origin: str) -> None:
    chat = await client.call("POST", "/chats", {}, browser(origin))
    assert (chat.status, chat.headers["access-control-allow-origin"]) == (201, origin)
    body = {"turn_blocks": [{"block_type": "text", "text_content": "hi"}], "model": "sim/story:events=5"}
    stream = await client.call("POST", f"/chats/{chat.json['id']}/turns?stream=true", body, browser(origin))
    assert stream.status == 200
    assert stream.headers["access-control-allow-origin"] == origin
    assert b"event: turn_complete" in stream.body


@pytest.mark.requirement("R5")
async def test_a_preflight_is_answered(client: Client) -> None:
    asked = {
        **browser(LISTED),
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key,last-event-id",
    }
    answer = await client.call("OPTIONS", "/chats", headers=asked)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == LISTED
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "idempotency-key" in answer.headers["access-control-allow-headers"]
    refused = await client.call("OPTIONS", "/chats", headers={**asked, "Origin": OTHER})
    assert refused.status == 400
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize("origin", [OTHER, "null", f"{LISTED}.evil.example", "http://app.example", ""])
async def test_a_page_that_is_not_listed_changes_nothing(client: Client, origin: str) -> None:
    answer = await client.call("POST", "/chats", {}, browser(origin))
    assert answer.status == 401
    assert "access-control-allow-origin" not in answer.headers
    assert "server.cors_origins" in answer.json["error"]["message"]
    assert (await client.call("GET", "/chats")).json["chats"] == []


async def test_an_error_can_be_read_by_a_listed_page(client: Client) -> None:
    missing = await client.call("GET", "/chats/01890000-0000-7000-8000-000000000000", headers=browser(LISTED))
    assert (missing.status, missing.headers["access-control-allow-origin"]) == (404, LISTED)


async def test_a_key_stays_required_of_a_listed_page(tmp_path: Path) -> None:
    server = ServerSettings(cors_origins=(LISTED,))
    engine = Engine(f"sqlite:///{tmp_path}/t.sqlite", server=server, authenticate=key_required("k" * 32))
    async with serving(engine.application()) as port:
        client = Client(port)
        refused = await client.call("POST", "/chats", {}, browser(LISTED))
        assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, LISTED)
        given = {**browser(LISTED), "Authorization": f"Bearer {'k' * 32}"}
        assert (await client.call("POST", "/chats", {}, given)).status == 201


async def test_without_the_setting_no_header_is_added(tmp_path: Path) -> None:
    async with serving(Engine(f"sqlite:///{tmp_path}/t.sqlite").application()) as port:
        answer = await Client(port).call("GET", "/chats", headers=browser(LISTED))
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origins", ["*", "app.example", "https://app.example/", "ftp://app.example"])
def test_an_origin_that_no_browser_sends_is_refused_at_start(origins: str) -> None:
    with pytest.raises(ConfigurationError, match="cors_origins"):
        load_settings(environ={"TURNSTREAM_SERVER__CORS_ORIGINS": origins})


async def page(port: int, headers: str = "") -> str:
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{headers}\r\n".encode()
        )
        answer = (await reader.read()).decode()
        writer.close()
    assert answer.startswith("HTTP/1.1 200")
    assert "content-type: text/html" in answer.lower()
    return answer


@pytest.fixture
def _no_built_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve the plain page, also in a checkout where the page was built."""
    monkeypatch.setattr(BuiltPage, "load", lambda *_: None)


@pytest.mark.usefixtures("_no_built_page")
async def test_the_address_of_the_server_answers_a_person(tmp_path: Path) -> None:
    async with serving(Engine(f"sqlite:///{tmp_path}/t.sqlite").application()) as port:
        answer = await page(port)
    assert 'href="/docs"' in answer
    assert f"--url http://127.0.0.1:{port}" in answer
    assert "<code>sim/demo</code> <small>default</small>" in answer


@pytest.mark.usefixtures("_no_built_page")
async def test_models_are_shown_to_callers_alone(tmp_path: Path) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/t.sqlite", authenticate=key_required("k" * 32))
    async with serving(engine.application()) as port:
        assert "sim/demo" not in await page(port)
        assert "sim/demo" in await page(port, f"Authorization: Bearer {'k' * 32}\r\n")
