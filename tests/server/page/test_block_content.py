"""Images and documents have an address of their own, and lists may leave them out."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from tests.server.live import Client, serving
from turnstream.engine import Engine
from turnstream.server.auth import Principal

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PDF = b"%PDF-1.4 a document"


def owner_of(request: Request) -> Principal:
    return Principal(request.headers.get("x-owner", "somebody"))


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite", authenticate=owner_of)
    async with serving(engine.application()) as port:
        yield Client(port)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def question(client: Client, *blocks: dict[str, Any]) -> tuple[str, str]:
    """Send blocks. Return the ids of the chat and of the user's turn."""
    chat = (await client.call("POST", "/chats")).json["id"]
    body = {"turn_blocks": [*blocks, {"type": "text", "text": "look"}], "model": "sim/echo:pace=0"}
    answer = await client.call("POST", f"/chats/{chat}/turns", body)
    assert answer.status == 201, answer
    return chat, answer.json["user_turn"]["id"]


IMAGE = {"block_type": "image", "content": {"media_type": "image/png", "data": encoded(PNG)}}
ADDRESSED = {"block_type": "image", "content": {"url": f"data:image/png;base64,{encoded(PNG)}"}}
DOCUMENT: dict[str, Any] = {
    "block_type": "document",
    "content": {"media_type": "application/pdf", "data": encoded(PDF), "title": "A paper"},
}
PAGE = {
    "block_type": "document",
    "content": {"media_type": "text/html", "data": encoded(b"<script>alert(1)</script>")},
}
PLAIN = {"block_type": "document", "content": {"text": "a text"}}


@pytest.mark.parametrize(
    ("block", "data", "media_type", "shown"),
    [
        (IMAGE, PNG, "image/png", "inline"),
        (ADDRESSED, PNG, "image/png", "inline"),
        (DOCUMENT, PDF, "application/pdf", "attachment"),
        (PAGE, b"<script>alert(1)</script>", "text/plain; charset=utf-8", "attachment"),
        (PLAIN, b"a text", "text/plain; charset=utf-8", "attachment"),
    ],
)
async def test_the_content_of_a_block_is_its_bytes(
    client: Client, block: dict[str, Any], data: bytes, media_type: str, shown: str
) -> None:
    _, turn = await question(client, block)
    answer = await client.call("GET", f"/turns/{turn}/blocks/0/content")
    assert (answer.status, answer.body) == (200, data)
    assert answer.headers["content-type"] == media_type
    assert answer.headers["content-disposition"].startswith(f"{shown}; filename=")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"].startswith("private")


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("A paper", "A%20paper.pdf"),
        ("Bericht März.PDF", "Bericht%20M%C3%A4rz.PDF"),
        ("../../etc/passwd", "passwd.pdf"),
        ("C:\\files\\page.html", "page.html.pdf"),
        ('a"; filename="b.exe\r\nX-Header: 1', "a%22%3B%20filename%3D%22b.exeX-Header%3A%201.pdf"),
        ("\u202efdp.exe", "fdp.exe.pdf"),
        ("x" * 500, f"{'x' * 120}.pdf"),
    ],
)
async def test_a_download_is_named_by_its_title(client: Client, title: str, name: str) -> None:
    document = {"block_type": "document", "content": {**DOCUMENT["content"], "title": title}}
    _, turn = await question(client, document)
    answer = await client.call("GET", f"/turns/{turn}/blocks/0/content")
    disposition = f"attachment; filename=\"{turn}-0.pdf\"; filename*=UTF-8''{name}"
    assert answer.headers["content-disposition"] == disposition


@pytest.mark.parametrize("title", [" ", "..", "a/", None])
async def test_a_download_without_a_usable_title_is_named_by_its_turn(
    client: Client, title: str | None
) -> None:
    content = {name: value for name, value in DOCUMENT["content"].items() if name != "title"}
    document = {
        "block_type": "document",
        "content": {**content, **({} if title is None else {"title": title})},
    }
    _, turn = await question(client, document)
    answer = await client.call("GET", f"/turns/{turn}/blocks/0/content")
    assert answer.headers["content-disposition"] == f'attachment; filename="{turn}-0.pdf"'


async def test_a_path_may_leave_out_the_data(client: Client) -> None:
    chat, turn = await question(client, IMAGE, DOCUMENT, PLAIN, ADDRESSED)
    whole = (await client.call("GET", f"/chats/{chat}/path")).json["turns"][0]["blocks"]
    assert whole[0]["content"] == IMAGE["content"]
    answer = await client.call("GET", f"/chats/{chat}/path?media=omit")
    image, document, plain, addressed, text = answer.json["turns"][0]["blocks"]
    assert answer.json["turns"][0]["id"] == turn
    assert image["content"] == {"media_type": "image/png", "size": len(PNG)}
    assert document["content"] == {"media_type": "application/pdf", "title": "A paper", "size": len(PDF)}
    assert plain["content"] == PLAIN["content"]
    assert addressed["content"] == {"media_type": "image/png", "size": len(PNG)}
    assert text["text_content"] == "look"
    assert encoded(PNG).encode() not in answer.body
    assert (await client.call("GET", f"/chats/{chat}/path?media=other")).status == 400


async def test_blocks_without_bytes_and_other_owners_get_nothing(client: Client) -> None:
    _, turn = await question(client, {"block_type": "image", "content": {"url": "https://a.example/b.png"}})
    for place in (0, 1, 7):
        answer = await client.call("GET", f"/turns/{turn}/blocks/{place}/content")
        assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")
    assert (await client.call("GET", f"/turns/{turn}/blocks/-1/content")).status == 400
    _, own = await question(client, IMAGE)
    others = await client.call("GET", f"/turns/{own}/blocks/0/content", headers={"X-Owner": "another"})
    assert others.status == 404


async def test_chats_are_found_by_their_titles_and_texts(client: Client) -> None:
    ids: dict[str, str] = {}
    for title, text in (
        ("Rocks", "Granite is 100% igneous"),
        ("sea_lions", "they bark"),
        ("", "about GRANITE too"),
    ):
        ids[title] = (await client.call("POST", "/chats", {"title": title})).json["id"]
        body = {"turn_blocks": text, "model": "sim/echo:pace=0"}
        assert (await client.call("POST", f"/chats/{ids[title]}/turns", body)).status == 201

    async def found(search: str, owner: str = "somebody") -> list[str]:
        answer = await client.call("GET", f"/chats?search={search}", headers={"X-Owner": owner})
        return [chat["id"] for chat in answer.json["chats"]]

    assert await found("granite") == [ids[""], ids["Rocks"]]
    assert await found("rOCKs") == [ids["Rocks"]]
    assert await found("100%25") == [ids["Rocks"]]
    assert await found("a_l") == [ids["sea_lions"]]
    assert await found("%25") == [ids["Rocks"]]
    assert await found("nothing%20of%20it") == []
    assert await found("granite", owner="another") == []
    assert len(await found("")) == 3
    assert (await client.call("GET", f"/chats?search={'x' * 201}")).status == 400
